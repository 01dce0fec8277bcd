// The words of a regular expression: characters, escapes and character classes. regex_syntax.h says what is allowed.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "norma/base/json.h"

#include "code_set.h"

namespace norma {

// The set, and the characters that differ from an ASCII letter in it by case only.
CodeSet with_other_case(const CodeSet& set);
bool is_ascii_letter(char32_t code);

// Reads from the front of a pattern on; everything else is refused with a DataError that shows it.
class RegexReader {
 public:
  RegexReader(std::string_view pattern, const JsonLocation& where) : pattern_(pattern), where_(where) {}

  // One character, or a set of them (of a class escape).
  struct Item {
    char32_t code = 0;
    std::optional<CodeSet> set;
  };

  std::string_view rest() const { return pattern_.substr(at_); }
  bool next_is(std::string_view text) const { return rest().starts_with(text); }
  bool skip(std::string_view text) {
    const bool found = next_is(text);
    if (found) at_ += text.size();
    return found;
  }

  // Throws: the next `length` bytes are a construct that cannot be read, or that the two engines read differently.
  [[noreturn]] void refuse(std::size_t length, std::string_view why) const;
  char32_t take_char();
  // Throws when a character within (?i:...) is not ASCII.
  void check_any_case(char32_t code) const;
  // A character, or an escape that stands for one or for a set.
  Item read_item(bool any_case);
  // [...]
  CodeSet read_class(bool any_case);

 protected:
  std::string_view pattern_;
  const JsonLocation& where_;
  std::size_t at_ = 0;

 private:
  // \s \S \w \W \d \D \p{...} \P{...}; nothing for another escape.
  std::optional<CodeSet> read_set_escape(char letter);
  // \xHH of ASCII, \x{H...}, \uHHHH
  char32_t read_hex_escape();
  void read_class_item(bool any_case, bool is_first, std::vector<CodeRange>& ranges);
  void check_class_character() const;
};

}  // namespace norma
