// Log lines, from app and train only; other rooms return values. spdlog lives behind log.cpp.
#pragma once

#include <string>
#include <string_view>

namespace norma {

enum class LogLevel { debug, info, warning, error };

// Console lines go to stderr. `file` (may be empty) additionally receives every line with a time stamp.
void start_log(LogLevel console_level, const std::string& file);

void log_debug(std::string_view line);
void log_info(std::string_view line);
void log_warning(std::string_view line);
void log_error(std::string_view line);

// One line that is rewritten in place on a terminal (step, loss, ETA ...). Elsewhere it is a plain log line.
// On a terminal the next ordinary log line first ends it, so that nothing is overwritten.
class ProgressLine {
 public:
  ProgressLine();
  bool on_terminal() const { return on_terminal_; }
  void update(std::string_view text);  // rewrites the line (terminal) or logs it (elsewhere)
  void finish();                       // leaves the last text standing

 private:
  bool on_terminal_;
};

}  // namespace norma
