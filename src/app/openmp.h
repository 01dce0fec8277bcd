// How OpenMP's threads wait.
#pragma once

namespace norma {

// By default GCC's OpenMP threads spin while they wait, and a step is many times slower as soon as another process
// wants a core. OMP_WAIT_POLICY=PASSIVE costs nothing measurable on a quiet machine, but is read before main(): a
// process without any such setting starts itself anew with it. Returns when there is nothing to do or that fails.
void wait_without_spinning(char** argv);

}  // namespace norma
