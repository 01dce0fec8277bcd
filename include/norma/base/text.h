// Small text helpers: concatenation, numbers, durations and tables for people, the nearest valid name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace norma {

// Concatenates anything that can be streamed: cat("layer ", 3, " of ", 16).
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
std::string trim(std::string_view text);  // ASCII white space only

// 1234567 -> "1,234,567"
std::string with_commas(std::int64_t number);
// Shortest decimal text that reads back as the same double: 0.1 -> "0.1", 3e-4 -> "0.0003", 1e12 -> "1e+12".
std::string shortest(double value);
// printf("%.*f"): fixed(2.5, 3) -> "2.500"
std::string fixed(double value, int digits);
// Bytes as "1.5 GiB"; seconds as "2h03m", "4m05s" or "3.2s"; counts as "4.5k", "1.2M".
std::string human_bytes(double bytes);
std::string human_seconds(double seconds);
std::string human_count(double count);
// "[2, 16]".
std::string shape_text(const std::vector<std::int64_t>& shape);

// Rows of cells as lines: every column is as wide as its widest cell (in code points), with two spaces between columns.
// The first `left_columns` columns are aligned to the left; the others hold numbers and are aligned to the right. The
// first row has every column; later rows may end early.
std::string aligned(const std::vector<std::vector<std::string>>& rows, std::size_t left_columns);

// The same rows as a Markdown table. A bar in a cell is escaped.
std::string markdown(const std::vector<std::vector<std::string>>& rows);

// The candidate with the smallest edit distance to `name`, or "" when none is close enough to be a typing error.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

// ", did you mean 'lr'?" or "", to be appended to a message.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace norma
