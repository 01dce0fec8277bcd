// The only file that includes spdlog (and, through it, the system's fmt). It must not see LibTorch.
#include "norma/base/log.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "norma/base/error.h"

namespace norma {

namespace {

// One lock orders log lines and the progress line, so the sinks need none of their own.
struct LogState {
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> logger;
  LogLevel console_level = LogLevel::info;
  bool progress_open = false;  // the cursor stands at the end of a progress line
};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  throw CheckFailure("[log] unknown level");
}

std::shared_ptr<spdlog::logger> make_logger(LogLevel console_level, const std::string& file) {
  auto logger = std::make_shared<spdlog::logger>("norma");
  auto console = std::make_shared<spdlog::sinks::stderr_sink_st>();
  console->set_level(to_spdlog(console_level));
  console->set_pattern("%v");
  logger->sinks().push_back(console);
  if (!file.empty()) {
    try {
      auto sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(file);  // appends
      sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %v");
      logger->sinks().push_back(sink);
    } catch (const spdlog::spdlog_ex& failure) {
      throw DiskError(cat("[log] the log file must be writable; got '", file, "': ", failure.what()));
    }
  }
  logger->set_level(spdlog::level::trace);
  // Ordinary lines are few, so each one is flushed; debug lines are written out with the next ordinary line.
  logger->flush_on(spdlog::level::info);
  return logger;
}

LogState& state() {
  static LogState* const kept = [] {
    auto* fresh = new LogState;  // never destroyed: destructors of other statics may still log
    fresh->logger = make_logger(LogLevel::info, "");
    return fresh;
  }();
  return *kept;
}

// The caller holds the lock.
void end_progress(LogState& log) {
  if (!log.progress_open) return;
  std::fputc('\n', stderr);
  log.progress_open = false;
}

void write_line(LogLevel level, std::string_view prefix, std::string_view line) {
  LogState& log = state();
  std::string text(prefix);
  text += line;
  const std::lock_guard lock(log.mutex);
  if (level >= log.console_level) end_progress(log);
  log.logger->log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

std::size_t terminal_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

void start_log(LogLevel console_level, const std::string& file) {
  auto logger = make_logger(console_level, file);
  LogState& log = state();
  const std::lock_guard lock(log.mutex);
  log.logger = std::move(logger);
  log.console_level = console_level;
}

void log_debug(std::string_view line) {
  write_line(LogLevel::debug, "debug: ", line);
}
void log_info(std::string_view line) {
  write_line(LogLevel::info, "", line);
}
void log_warning(std::string_view line) {
  write_line(LogLevel::warning, "warning: ", line);
}
void log_error(std::string_view line) {
  write_line(LogLevel::error, "error: ", line);
}

ProgressLine::ProgressLine() : on_terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::update(std::string_view text) {
  if (!on_terminal_) {
    log_info(text);
    return;
  }
  LogState& log = state();
  const std::lock_guard lock(log.mutex);
  if (log.console_level > LogLevel::info) return;
  // A line that wraps could not be rewritten in place.
  const std::string_view shown = text.substr(0, std::min(text.size(), terminal_width() - 1));
  std::fprintf(stderr, "\r%.*s\x1b[K", static_cast<int>(shown.size()), shown.data());
  std::fflush(stderr);
  log.progress_open = true;
}

void ProgressLine::finish() {
  LogState& log = state();
  const std::lock_guard lock(log.mutex);
  end_progress(log);
}

}  // namespace norma
