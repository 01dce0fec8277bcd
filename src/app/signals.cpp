#include "signals.h"

#include <csignal>
#include <string_view>

#include <unistd.h>

namespace norma {
namespace {

std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int signal) {
  if (g_stop.exchange(true)) _exit(128 + signal);
  constexpr std::string_view kText = "\nstopping after this step, with a checkpoint; once more to leave at once\n";
  [[maybe_unused]] const auto ignored = write(STDERR_FILENO, kText.data(), kText.size());
}

}  // namespace

const std::atomic<bool>& stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return g_stop;
}

}  // namespace norma
