// SIGINT and SIGTERM: the first asks the run to finish its step and save, the second ends the process at once.
#pragma once

#include <atomic>

namespace norma {

// Becomes true at the first signal. Installed once per process.
const std::atomic<bool>& stop_on_signals();

}  // namespace norma
