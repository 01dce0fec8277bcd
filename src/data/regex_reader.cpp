#include "regex_reader.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "unicode.h"

namespace norma {

namespace {

constexpr std::size_t kMaxShown = 200;  // of a pattern in an error

}  // namespace

bool is_ascii_letter(char32_t code) {
  return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
}

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

void RegexReader::refuse(std::size_t length, std::string_view why) const {
  const bool is_long = pattern_.size() > kMaxShown;
  std::size_t end = std::min(pattern_.size(), at_ + std::max<std::size_t>(length, 1));
  while (end < pattern_.size() && (static_cast<unsigned char>(pattern_[end]) & 0xC0) == 0x80) ++end;
  where_.fail("holds '", is_long ? pattern_.substr(0, kMaxShown) : pattern_, is_long ? "..." : "", "': '",
              pattern_.substr(at_, end - at_), "' at byte ", at_, " ", why);
}

char32_t RegexReader::take_char() {
  const DecodedChar next = decode_utf8(pattern_.data() + at_);
  at_ += next.length;
  return next.code;
}

void RegexReader::check_any_case(char32_t code) const {
  if (code >= 0x80) {
    where_.fail("holds '", pattern_.substr(0, kMaxShown),
                "': within (?i:...) only ASCII characters are supported; got one ", "before byte ", at_);
  }
}

RegexReader::Item RegexReader::read_item(bool any_case) {
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

std::optional<CodeSet> RegexReader::read_set_escape(char letter) {
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

char32_t RegexReader::read_hex_escape() {
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

CodeSet RegexReader::read_class(bool any_case) {
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

void RegexReader::read_class_item(bool any_case, bool is_first, std::vector<CodeRange>& ranges) {
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

void RegexReader::check_class_character() const {
  if (next_is("[") || next_is("&&")) {
    refuse(2, "nests, names or intersects character classes, which is not supported; allowed: \\[ and \\&");
  }
}

}  // namespace norma
