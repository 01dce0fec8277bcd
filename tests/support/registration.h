// Cases for fixtures are registered in main(), by functions that the test files announce.
#pragma once

namespace norma::testing {

using Registration = void (*)();

// Announces a function that registers cases, in file scope: `const bool kRegistered = announce(&register_all);`
bool announce(Registration registration);
void run_registrations();

}  // namespace norma::testing
