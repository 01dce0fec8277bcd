#include "regex_syntax.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string_view>

#include "unicode.h"

namespace norma {

namespace {

constexpr int kMaxDepth = 100;
constexpr std::size_t kMaxShown = 200;  // of a pattern in an error

bool is_ascii_letter(char32_t code) {
  return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}

char32_t lower(char32_t code) {
  return code | 0x20;
}

std::string code_text(char32_t code) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "\\x{%X}", static_cast<unsigned>(code));
  return text.data();
}

// The characters that differ from an ASCII one by case only.
CodeSet with_other_case(const CodeSet& set) {
  CodeSet folded = set;
  for (char32_t letter = 'a'; letter <= 'z'; ++letter) {
    const char32_t upper = letter - 0x20;
    if (!set.contains(letter) && !set.contains(upper)) continue;
    folded.add(letter, letter);
    folded.add(upper, upper);
    if (letter == 'k') folded.add(0x212A, 0x212A);  // the Kelvin sign
    if (letter == 's') folded.add(0x017F, 0x017F);  // the long s
  }
  return folded;
}

class Translator {
 public:
  Translator(std::string_view pattern, const Component& where) : pattern_(pattern), where_(where) {}

  std::string translate() {
    read_alternatives(false, 0);
    if (at_ < pattern_.size()) refuse(1, "closes a group that was not opened");
    return std::move(out_);
  }

 private:
  enum class Kind { repeatable, place };
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

  // `length` bytes from here are the construct that cannot be read, or is read differently by the two engines.
  [[noreturn]] void refuse(std::size_t length, std::string_view why) const {
    const bool is_long = pattern_.size() > kMaxShown;
    std::size_t end = std::min(pattern_.size(), at_ + std::max<std::size_t>(length, 1));
    while (end < pattern_.size() && (static_cast<unsigned char>(pattern_[end]) & 0xC0) == 0x80) ++end;
    where_.fail("'", is_long ? pattern_.substr(0, kMaxShown) : pattern_, is_long ? "..." : "", "': '",
                pattern_.substr(at_, end - at_), "' at byte ", at_, " ", why);
  }

  char32_t take_char() {
    const DecodedChar next = decode_utf8(pattern_.data() + at_);
    at_ += next.length;
    return next.code;
  }

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
        return Kind::place;
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
      kind = Kind::place;
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

  void check_any_case(char32_t code) const {
    if (code >= 0x80) {
      where_.fail("'", pattern_.substr(0, kMaxShown),
                  "': within (?i:...) only ASCII characters are supported; got one ", "before byte ", at_);
    }
  }

  Kind read_escape(bool any_case) {
    if (next_is("\\A") || next_is("\\z")) {
      out_ += rest().substr(0, 2);
      at_ += 2;
      last_letter_ = 0;
      return Kind::place;
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

  // A character, or an escape that stands for one or for a set.
  Item read_item(bool any_case) {
    if (rest()[0] != '\\') return {take_char(), std::nullopt};
    if (rest().size() < 2) refuse(1, "escapes nothing");
    const char letter = rest()[1];
    if (std::optional<CodeSet> set = read_set_escape(letter)) {
      if (any_case) refuse(0, "comes after a class of characters within (?i:...), which is not supported");
      return {0, std::move(set)};
    }
    static constexpr std::string_view kNames = "tnrfvae", kCodes = "\t\n\r\f\v\a\x1b";
    if (const std::size_t named = kNames.find(letter); named != std::string_view::npos) {
      at_ += 2;
      return {static_cast<char32_t>(kCodes[named]), std::nullopt};
    }
    if (letter == 'x' || letter == 'u') return {read_hex_escape(), std::nullopt};
    const bool is_plain = letter >= ' ' && letter < 0x7F && !is_ascii_letter(static_cast<char32_t>(letter)) &&
                          !(letter >= '0' && letter <= '9');
    if (!is_plain) refuse(2, "is an escape that is not supported");
    at_ += 2;
    return {static_cast<char32_t>(letter), std::nullopt};
  }

  // \s \S \w \W \d \D \p{...} \P{...}; nothing for another escape.
  std::optional<CodeSet> read_set_escape(char letter) {
    const auto choose = [&](const CodeSet& set) {
      at_ += 2;
      return letter >= 'a' ? set : set.complement();
    };
    if (letter == 's' || letter == 'S') return choose(space_set());
    if (letter == 'w' || letter == 'W') return choose(word_set());
    if (letter == 'd' || letter == 'D') return choose(digit_set());
    if (letter != 'p' && letter != 'P') return std::nullopt;
    const std::size_t close = rest().find('}');
    if (rest().substr(2, 1) != "{" || close == std::string_view::npos) {
      refuse(3, "is not supported; allowed: a category in braces, as in \\p{L}");
    }
    std::string_view name = rest().substr(3, close - 3);
    bool negated = letter == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::optional<CodeSet> set = category_set(name);
    if (!set) refuse(close + 1, "is not a general category; allowed: L Lu Ll Lt Lm Lo M N Nd P S Z C and their like");
    at_ += close + 1;
    return negated ? set->complement() : set;
  }

  // \xHH of ASCII, \x{H...}, \uHHHH
  char32_t read_hex_escape() {
    const bool braces = next_is("\\x{");
    const std::size_t begin = braces ? 3 : 2;
    const std::size_t length = braces ? std::min(rest().find('}'), rest().size()) - begin : next_is("\\u") ? 4 : 2;
    const std::string_view digits = rest().substr(std::min(begin, rest().size()), length);
    std::uint32_t code = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, code, 16);
    const bool is_number = !digits.empty() && digits.size() <= 6 && error == std::errc() && stop == end;
    const bool is_whole = braces ? rest().substr(begin + length, 1) == "}" : digits.size() == length;
    const std::uint32_t limit = next_is("\\x") && !braces ? 0x80 : 0x110000;
    if (!is_number || !is_whole || code >= limit || (code >= 0xD800 && code < 0xE000)) {
      refuse(begin + length, "is not the code of a character; allowed: \\x00 to \\x7F, \\x{H...}, \\uHHHH");
    }
    at_ += begin + length + (braces ? 1 : 0);
    return code;
  }

  CodeSet read_class(bool any_case) {
    const std::size_t begin = at_++;
    const bool negated = skip("^");
    if (next_is("]")) refuse(1, "starts a character class, which is not supported; allowed: \\]");
    std::vector<CodeRange> ranges;
    for (bool is_first = true; !skip("]"); is_first = false) {
      if (at_ == pattern_.size()) {
        at_ = begin;
        refuse(1, "is a character class that is not closed");
      }
      read_class_item(any_case, is_first, ranges);
    }
    CodeSet set(std::move(ranges));
    if (any_case) set = with_other_case(set);
    return negated ? set.complement() : set;
  }

  void read_class_item(bool any_case, bool is_first, std::vector<CodeRange>& ranges) {
    check_class_character();
    if (next_is("-")) {
      const bool is_last = rest().substr(1, 1) == "]";
      if ((!is_first && !is_last) || rest().substr(1, 1) == "-") {
        refuse(1, "is no range here, which is not supported; allowed: \\-");
      }
      ranges.push_back({take_char(), '-'});
      return;
    }
    Item item = read_item(any_case);
    if (item.set) {
      ranges.insert(ranges.end(), item.set->ranges().begin(), item.set->ranges().end());
      return;
    }
    char32_t last = item.code;
    if (next_is("-") && rest().size() > 1 && rest()[1] != ']') {
      ++at_;
      check_class_character();
      if (next_is("-")) refuse(1, "ends a range, which is not supported; allowed: \\-");
      const Item end = read_item(any_case);
      if (end.set || end.code < item.code)
        refuse(0, "comes after a range that does not go from a lower to a higher code");
      last = end.code;
    }
    if (any_case) check_any_case(last);
    ranges.push_back({item.code, last});
  }

  void check_class_character() const {
    if (next_is("[") || next_is("&&")) {
      refuse(2, "nests, names or intersects character classes, which is not supported; allowed: \\[ and \\&");
    }
  }

  std::string_view pattern_;
  const Component& where_;
  std::size_t at_ = 0;
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

std::string to_pcre(const std::string& pattern, const Component& where) {
  return Translator(pattern, where).translate();
}

}  // namespace norma
