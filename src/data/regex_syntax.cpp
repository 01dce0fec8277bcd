#include "regex_syntax.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string_view>

#include "regex_reader.h"

namespace norma {

namespace {

constexpr int kMaxDepth = 100;

char32_t lower(char32_t code) {
  return code | 0x20;
}

std::string code_text(char32_t code) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "\\x{%X}", static_cast<unsigned>(code));
  return text.data();
}

class Translator : private RegexReader {
 public:
  using RegexReader::RegexReader;

  std::string translate() {
    read_alternatives(false, 0);
    if (at_ < pattern_.size()) refuse(1, "closes a group that was not opened");
    return std::move(out_);
  }

 private:
  enum class Kind { repeatable, anchor };
  void read_alternatives(bool any_case, int depth) {
    if (depth > kMaxDepth) refuse(1, cat("is nested more than ", kMaxDepth, " groups deep"));
    while (at_ < pattern_.size() && rest()[0] != ')') {
      if (skip("|")) {
        out_ += '|';
        last_letter_ = 0;
        continue;
      }
      if (read_atom(any_case, depth) == Kind::repeatable) {
        read_repeat();
      } else if (starts_repeat()) {
        refuse(1, "has nothing to repeat");
      }
    }
  }

  Kind read_atom(bool any_case, int depth) {
    switch (rest()[0]) {
      case '(':
        return read_group(any_case, depth);
      case '[':
        out_ += class_text(read_class(any_case));
        last_letter_ = 0;
        return Kind::repeatable;
      case '\\':
        return read_escape(any_case);
      case '.':
        ++at_;
        out_ += "[^\\n]";
        last_letter_ = 0;
        return Kind::repeatable;
      case '^':
      case '$':
        out_ += pattern_[at_++];
        last_letter_ = 0;
        return Kind::anchor;
      case '*':
      case '+':
      case '?':
        refuse(1, "has nothing to repeat");
      case '{':
        refuse(1, "is no repeat here, which is not supported; allowed: \\{");
      default:
        write_literal(take_char(), any_case);
        return Kind::repeatable;
    }
  }

  Kind read_group(bool any_case, int depth) {
    Kind kind = Kind::repeatable;
    const std::size_t begin = at_;
    const bool outer_case = any_case;
    if (skip("(?:")) {
      out_ += "(?:";
    } else if (skip("(?i:")) {
      any_case = true;
      out_ += "(?:";
    } else if (skip("(?-i:")) {
      any_case = false;
      out_ += "(?:";
    } else if (skip("(?>")) {
      out_ += "(?>";
    } else if (next_is("(?=") || next_is("(?!") || next_is("(?<=") || next_is("(?<!")) {
      kind = Kind::anchor;
      const std::size_t length = next_is("(?<") ? 4 : 3;
      out_ += rest().substr(0, length);
      at_ += length;
    } else if (next_is("(?") || next_is("(*")) {
      refuse(4, "is a group that is not supported; allowed: ( (?: (?> (?i: (?-i: (?= (?! (?<= (?<!");
    } else {
      ++at_;
      out_ += "(?:";  // nothing refers to what a group matched
    }
    if (any_case != outer_case) last_letter_ = 0;
    read_alternatives(any_case, depth + 1);
    if (!skip(")")) {
      at_ = begin;
      refuse(1, "is a group that is not closed");
    }
    if (any_case != outer_case) last_letter_ = 0;
    out_ += ')';
    return kind;
  }

  bool starts_repeat() const {
    return at_ < pattern_.size() && (rest()[0] == '*' || rest()[0] == '+' || rest()[0] == '?' || rest()[0] == '{');
  }

  void read_repeat() {
    if (!starts_repeat()) return;
    if (rest()[0] == '{') {
      read_counted_repeat();
    } else {
      out_ += pattern_[at_++];
      if (next_is("?") || next_is("+")) out_ += pattern_[at_++];
    }
    if (starts_repeat()) refuse(1, "repeats a repeat, which is not supported; allowed: (?:...) around the inner one");
  }

  // {n}, {n,}, {n,m}; the latter two also lazily.
  void read_counted_repeat() {
    const std::size_t close = std::min(rest().find('}'), rest().size());
    const std::string_view body = rest().substr(1, close - 1);
    const std::size_t comma = std::min(body.find(','), body.size());
    const auto least = count_of(body.substr(0, comma));
    const bool has_comma = comma < body.size();
    const bool is_open = comma + 1 == body.size();
    const auto most = has_comma && !is_open ? count_of(body.substr(comma + 1)) : least;
    if (close == rest().size() || !least || !most || *most < *least) {
      refuse(close + 1, "is no repeat that is supported; allowed: {n} {n,} {n,m}, and \\{ for the character");
    }
    const std::string_view after = rest().substr(close + 1);
    if (after.starts_with('+') || (after.starts_with('?') && !has_comma)) {
      refuse(close + 2, "is read differently by regular expression engines; allowed: {n} {n,} {n,m} {n,}? {n,m}?");
    }
    const std::size_t length = close + (after.starts_with('?') ? 2 : 1);
    out_ += rest().substr(0, length);
    at_ += length;
  }

  static std::optional<unsigned> count_of(std::string_view digits) {
    unsigned value = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    if (digits.empty() || error != std::errc() || stop != end) return std::nullopt;
    return value;
  }

  void write_literal(char32_t code, bool any_case) {
    if (!any_case) {
      out_ += code_text(code);
      last_letter_ = 0;
      return;
    }
    check_any_case(code);
    if (!is_ascii_letter(code)) {
      out_ += code_text(code);
      last_letter_ = 0;
      return;
    }
    // Oniguruma lets these two letters match one character: the German ss, the ligatures.
    static constexpr std::array<std::string_view, 5> kFolded{"ss", "st", "ff", "fi", "fl"};
    const std::array<char, 2> pair{static_cast<char>(last_letter_), static_cast<char>(lower(code))};
    if (std::find(kFolded.begin(), kFolded.end(), std::string_view(pair.data(), 2)) != kFolded.end()) {
      --at_;
      refuse(1, cat("makes '", std::string_view(pair.data(), 2), "' within (?i:...), which is not supported"));
    }
    last_letter_ = lower(code);
    CodeSet set;
    set.add(code, code);
    out_ += class_text(with_other_case(set));
  }

  Kind read_escape(bool any_case) {
    if (next_is("\\A") || next_is("\\z")) {
      out_ += rest().substr(0, 2);
      at_ += 2;
      last_letter_ = 0;
      return Kind::anchor;
    }
    const bool is_word = next_is("\\w") || next_is("\\W");
    Item item = read_item(any_case);
    if (!item.set) {
      write_literal(item.code, any_case);
      return Kind::repeatable;
    }
    // Oniguruma counts these superscripts and fractions as word characters, but not within [].
    if (is_word) {
      const bool negated = item.set->contains(' ');
      CodeSet set = word_set();
      for (const CodeRange& range : {CodeRange{0xB2, 0xB3}, CodeRange{0xB9, 0xB9}, CodeRange{0xBC, 0xBE}}) {
        set.add(range.first, range.last);
      }
      item.set = negated ? set.complement() : set;
    }
    out_ += class_text(*item.set);
    last_letter_ = 0;
    return Kind::repeatable;
  }

  std::string out_;
  char32_t last_letter_ = 0;  // the one just before, within (?i:...)
};

}  // namespace

std::string class_text(const CodeSet& set) {
  if (set.ranges().empty()) return "[^\\x{0}-\\x{10FFFF}]";
  std::string out = "[";
  for (const CodeRange& range : set.ranges()) {
    out += code_text(range.first);
    if (range.last > range.first) out += cat("-", code_text(range.last));
  }
  return out + "]";
}

std::string to_pcre(const std::string& pattern, const JsonLocation& where) {
  return Translator(pattern, where).translate();
}

}  // namespace norma
