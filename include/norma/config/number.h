// Numbers and durations as OLMo's configs write them.
//
//   500      500 steps
//   2ep      2 epochs
//   30min    as many steps as this machine takes in 30 minutes; 2h is 120min
//   1e9T     10^9 tokens
//   1e12     the number 10^12; an integer where one is asked for
//   1_000    1000
//   0x10     16
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace norma {

enum class DurationUnit { steps, tokens, epochs, minutes };

struct Duration {
  double value = 0;
  DurationUnit unit = DurationUnit::steps;
  bool operator==(const Duration&) const = default;
};

// These return nullopt when the text is not such a number. parse_integer also reads "1e12" and "4.0", exactly and not
// through a double; it refuses "1.5" and anything beyond 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view text);
std::optional<double> parse_double(std::string_view text);

// Steps and epochs are integers up to 2^53. A fraction of a token is dropped, as in OLMo.
std::optional<Duration> parse_duration(std::string_view text);

std::string to_string(const Duration& duration);  // "500", "1e9T", "2ep", "30min"; parses to the same duration

}  // namespace norma
