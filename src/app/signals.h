// SIGINT, SIGTERM and SIGHUP: the first asks the command to come to a good end, the second ends the process at once.
#pragma once

#include <atomic>

namespace norma {

// Becomes true at the first signal, which also says `text` (a string literal). To be called once per process.
const std::atomic<bool>& stop_on_signals(const char* text);

// The signal that came first; 0 before.
int stop_signal();

// How a command ends that keeps nothing of what it was stopped in: 128 + the signal, as a shell reports it.
int stopped_exit_code();

}  // namespace norma
