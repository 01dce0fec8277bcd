// What a process does with signals, and how its threads wait.
#pragma once

#include <atomic>

namespace norma {

// A write to a full disk quota or a closed pipe fails like any other, with a message and an exit code, instead of
// ending the process by a signal.
void let_writes_fail();

// SIGINT, SIGTERM and SIGHUP: the first asks the command to come to a good end, the second ends the process at once.
// Returns what becomes true at the first signal, which also prints `text` (a string literal). To be called once per
// process.
const std::atomic<bool>& stop_on_signals(const char* text);

// The signal that came first; 0 before.
int stop_signal();

// The exit code of a command that keeps nothing of what it was stopped in: 128 + the signal, as a shell reports it.
int stopped_exit_code();

// GCC's OpenMP threads spin while they wait, and a step is many times slower as soon as another process wants a core.
// OMP_WAIT_POLICY=PASSIVE costs nothing measurable on a quiet machine, but is read before main(): a process without
// such a setting starts itself anew with it. Returns when there is nothing to do or when that fails.
void wait_without_spinning(char** argv);

}  // namespace norma
