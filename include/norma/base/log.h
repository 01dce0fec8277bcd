// Log lines, from app and train only; other rooms return values. spdlog lives behind log.cpp.
#pragma once

#include <string>
#include <string_view>

namespace norma {

enum class LogLevel { debug, info, warning, error };

// Console lines go to stderr. `file`, unless it is empty, receives every line with a time stamp.
void start_log(LogLevel console_level, const std::string& file);

void log_debug(std::string_view line);
void log_info(std::string_view line);
void log_warning(std::string_view line);
void log_error(std::string_view line);

// A line that is rewritten again and again on a terminal (step, loss, ETA ...). Elsewhere every update is a log line.
// On a terminal the next ordinary log line ends it first, so that nothing is overwritten.
class ProgressLine {
 public:
  ProgressLine();
  bool on_terminal() const { return on_terminal_; }
  void update(std::string_view text);  // rewrites the line (terminal) or logs it (elsewhere)
  void finish();                       // keeps the last text on the screen

 private:
  bool on_terminal_;
};

}  // namespace norma
