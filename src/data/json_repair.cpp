#include "json_repair.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace norma {
namespace {

class Mender {
 public:
  explicit Mender(std::string_view json) : text_(json) {}

  RepairedJson run() {
    for (std::size_t at = 0; at < text_.size();) at = text_[at] == '"' ? mend_string(at + 1) : mend_value(at);
    return {std::move(text_), has_lone_surrogates_};
  }

 private:
  bool has(std::size_t at, std::string_view part) const { return std::string_view(text_).substr(at).starts_with(part); }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool continues_value(char c) {
    return is_digit(c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
  }

  void replace(std::size_t at, std::size_t length, std::string_view by) {
    std::string padded(by);
    padded.resize(length, ' ');
    text_.replace(at, length, padded);
  }

  // Mends what begins here outside of strings; returns the offset behind it.
  std::size_t mend_value(std::size_t at) {
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
      if (!has(at, word) || (at > 0 && continues_value(text_[at - 1]))) continue;
      replace(at, word.size(), "0");
      return at + word.size();
    }
    if (!is_digit(text_[at])) return at + 1;
    const std::size_t end = std::min(text_.find_first_not_of("0123456789.eE+-", at), text_.size());
    const std::string number = text_.substr(at, end - at);
    char* stop = nullptr;
    const double value = std::strtod(number.c_str(), &stop);
    const bool is_octal = number.size() > 1 && number[0] == '0' && is_digit(number[1]);  // no JSON
    if (*stop == '\0' && std::isinf(value) && !is_octal) replace(at, end - at, "0");
    return end;
  }

  // The code of the escape \uXXXX at this offset, or 0.
  unsigned unit(std::size_t at) const {
    if (!has(at, "\\u") || at + 6 > text_.size()) return 0;
    const std::string digits = text_.substr(at + 2, 4);
    char* stop = nullptr;
    const unsigned long code = std::strtoul(digits.c_str(), &stop, 16);
    return *stop == '\0' ? static_cast<unsigned>(code) : 0;
  }

  // Mends the rest of a string; returns the offset after its closing quote.
  std::size_t mend_string(std::size_t at) {
    while (at < text_.size() && text_[at] != '"') {
      if (text_[at] != '\\') {
        ++at;
        continue;
      }
      const unsigned code = unit(at);
      const bool is_pair = (code & 0xFC00U) == 0xD800 && (unit(at + 6) & 0xFC00U) == 0xDC00;
      if ((code & 0xF800U) == 0xD800 && !is_pair) {
        replace(at, 6, "\\ufffd");
        has_lone_surrogates_ = true;
      }
      at += is_pair ? 12 : code != 0 ? 6 : 2;
    }
    return at + 1;
  }

  std::string text_;
  bool has_lone_surrogates_ = false;
};

}  // namespace

RepairedJson repair_json(std::string_view json) {
  return Mender(json).run();
}

}  // namespace norma
