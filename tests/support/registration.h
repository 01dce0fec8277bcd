// Fixture cases are registered after main() has started, from functions each test file announces.
#pragma once

namespace norma::testing {

using Registration = void (*)();

// Announces a function that registers cases: a file-scope `const bool kRegistered = announce(&register_all);`
bool announce(Registration registration);
void run_registrations();

}  // namespace norma::testing
