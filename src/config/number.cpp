#include "norma/config/number.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "norma/base/text.h"

namespace norma {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53: every integer up to here is a double

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// A decimal number in parts.
struct Decimal {
  bool negative = false;
  std::string digits;         // of the whole and the fraction, at least one
  std::int64_t exponent = 0;  // power of ten of the last digit
};

// Moves the digits at the front of `text` to `digits`. A '_' between two digits is allowed.
bool take_digits(std::string_view& text, std::string& digits) {
  std::size_t i = 0;
  while (i < text.size() && (is_digit(text[i]) || text[i] == '_')) {
    if (text[i] != '_') {
      digits.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return false;
    }
    ++i;
  }
  text.remove_prefix(i);
  return true;
}

bool take_sign(std::string_view& text) {
  if (text.empty() || (text[0] != '-' && text[0] != '+')) return false;
  const bool negative = text[0] == '-';
  text.remove_prefix(1);
  return negative;
}

bool take_exponent(std::string_view& text, std::int64_t& exponent) {
  if (text.empty() || (text[0] != 'e' && text[0] != 'E')) return true;
  text.remove_prefix(1);
  const bool negative = take_sign(text);
  if (text.empty() || text.size() > 6) return false;
  std::int64_t power = 0;
  for (const char c : text) {
    if (!is_digit(c)) return false;
    power = power * 10 + (c - '0');
  }
  exponent += negative ? -power : power;
  text = {};
  return true;
}

std::optional<Decimal> parse_decimal(std::string_view text) {
  Decimal number;
  number.negative = take_sign(text);
  if (!take_digits(text, number.digits)) return std::nullopt;
  if (number.digits.size() > 1 && number.digits[0] == '0') return std::nullopt;
  const std::size_t whole = number.digits.size();
  if (!text.empty() && text[0] == '.') {
    text.remove_prefix(1);
    if (!take_digits(text, number.digits)) return std::nullopt;
  }
  if (number.digits.empty()) return std::nullopt;
  number.exponent = -static_cast<std::int64_t>(number.digits.size() - whole);
  if (!take_exponent(text, number.exponent) || !text.empty()) return std::nullopt;
  return number;
}

std::optional<std::int64_t> with_sign(std::uint64_t magnitude, bool negative) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (magnitude > kMax + (negative ? 1 : 0)) return std::nullopt;
  return static_cast<std::int64_t>(negative ? ~magnitude + 1 : magnitude);
}

std::optional<std::int64_t> integer_from_digits(const std::string& digits, int base, bool negative) {
  std::uint64_t magnitude = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, magnitude, base);
  if (error != std::errc() || stop != end) return std::nullopt;
  return with_sign(magnitude, negative);
}

std::optional<std::int64_t> parse_hexadecimal(std::string_view text) {
  const bool negative = take_sign(text);
  if (text.size() < 3 || text[0] != '0' || (text[1] != 'x' && text[1] != 'X')) return std::nullopt;
  return integer_from_digits(std::string(text.substr(2)), 16, negative);
}

// "1500000000" -> "1.5e9" where that is shorter to read; both are the same integer.
std::string compact_integer(std::int64_t value) {
  const std::string digits = std::to_string(value);
  const std::size_t last = digits.find_last_not_of('0');
  if (value <= 0 || digits.size() - last - 1 < 6) return digits;
  std::string text = digits.substr(0, 1);
  if (last > 0) text.append(".").append(digits, 1, last);
  return cat(text, "e", digits.size() - 1);
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text) {
  if (auto hexadecimal = parse_hexadecimal(text)) return hexadecimal;
  std::optional<Decimal> number = parse_decimal(text);
  if (!number) return std::nullopt;
  std::string& digits = number->digits;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  if (digits == "0") return 0;
  if (number->exponent > 18) return std::nullopt;
  for (; number->exponent < 0; ++number->exponent) {
    if (digits.empty() || digits.back() != '0') return std::nullopt;
    digits.pop_back();
  }
  digits.append(static_cast<std::size_t>(number->exponent), '0');
  return integer_from_digits(digits, 10, number->negative);
}

std::optional<double> parse_double(std::string_view text) {
  if (auto hexadecimal = parse_hexadecimal(text)) return static_cast<double>(*hexadecimal);
  const std::optional<Decimal> number = parse_decimal(text);
  if (!number) return std::nullopt;
  const std::string plain = cat(number->digits, "e", number->exponent);
  double value = 0.0;
  const auto [stop, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
  return number->negative ? -value : value;
}

std::optional<Duration> parse_duration(std::string_view text) {
  if (text.ends_with('T')) {
    const auto tokens = parse_double(trim(text.substr(0, text.size() - 1)));
    if (!tokens) return std::nullopt;
    return Duration{std::trunc(*tokens), DurationUnit::tokens};
  }
  for (const auto& [suffix, minutes] : {std::pair{std::string_view("min"), 1.0}, {std::string_view("h"), 60.0}}) {
    if (!text.ends_with(suffix)) continue;
    const auto number = parse_double(trim(text.substr(0, text.size() - suffix.size())));
    if (!number) return std::nullopt;
    return Duration{*number * minutes, DurationUnit::minutes};
  }
  const bool epochs = text.ends_with("ep");
  const auto count = parse_integer(epochs ? trim(text.substr(0, text.size() - 2)) : std::string(text));
  if (!count || std::abs(static_cast<double>(*count)) > kExactIntegers) return std::nullopt;
  return Duration{static_cast<double>(*count), epochs ? DurationUnit::epochs : DurationUnit::steps};
}

std::string to_string(const Duration& duration) {
  const double value = duration.value;
  const bool integral = std::abs(value) <= kExactIntegers && std::trunc(value) == value;
  const std::string number = integral ? compact_integer(static_cast<std::int64_t>(value)) : shortest(value);
  switch (duration.unit) {
    case DurationUnit::steps:
      return number;
    case DurationUnit::tokens:
      return number + "T";
    case DurationUnit::epochs:
      return number + "ep";
    case DurationUnit::minutes:
      return number + "min";
  }
  return number;
}

}  // namespace norma
