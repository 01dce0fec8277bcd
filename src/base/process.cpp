#include "norma/base/process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include <unistd.h>

namespace norma {
namespace {

std::atomic<bool> g_stop{false};
std::atomic<int> g_signal{0};
std::string_view g_text;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

void on_signal(int signal) {
  int none = 0;
  if (!g_signal.compare_exchange_strong(none, signal)) _exit(128 + signal);
  g_stop = true;
  const int kept = errno;
  for (const std::string_view part : {std::string_view("\n"), g_text, std::string_view("\n")}) {
    [[maybe_unused]] const auto ignored = write(STDERR_FILENO, part.data(), part.size());
  }
  errno = kept;
}

}  // namespace

const std::atomic<bool>& stop_on_signals(const char* text) {
  g_text = text;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // nohup asks to go on without a terminal
  return g_stop;
}

int stop_signal() {
  return g_signal;
}

int stopped_exit_code() {
  const int signal = g_signal;
  return 128 + (signal == 0 ? SIGINT : signal);  // 0: another process was stopped
}

void let_writes_fail() {
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

void wait_without_spinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "PASSIVE", /*overwrite=*/1);
  char path[4096] = {};
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length > 0) execv(path, argv);
}

}  // namespace norma
