#include "word_scanner.h"

#include "unicode.h"

namespace norma {
namespace {

// The text from where a word begins.
struct Scanner {
  const CharTable& table;
  const char* end;

  struct Char {
    CharClass kind;
    std::uint32_t length;
  };

  Char read(const char* p) const {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte < 0x80) return {table.ascii_kind(byte), 1};
    const DecodedChar decoded = decode_utf8(p);
    return {table.kind(decoded.code), decoded.length};
  }

  static bool is_line_end(char c) { return c == '\n' || c == '\r'; }

  const char* skip(const char* p, CharClass kind) const {
    while (p < end) {
      const Char next = read(p);
      if (next.kind != kind) break;
      p += next.length;
    }
    return p;
  }

  // White space from `begin`, as \s+(?!\S)|\s+ takes it: the last character is left to a word that follows.
  const char* space_end(const char* begin) const {
    const char* p = begin;
    const char* last = begin;
    while (p < end) {
      const Char next = read(p);
      if (next.kind != CharClass::space) return last > begin ? last : p;
      last = p;
      p += next.length;
    }
    return p;
  }

  // Length of 's 't 're 've 'm 'll 'd at `p`, which holds the apostrophe; 0 when there is none.
  template <bool kAnyCase>
  std::size_t contraction(const char* p) const {
    const auto letter = [p](int i) { return kAnyCase ? static_cast<char>(p[i] | 0x20) : p[i]; };
    if (end - p < 2) return 0;
    const char first = letter(1);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    if (end - p < 3) return 0;
    const char second = letter(2);
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return 3;
    // U+017F, the long s, is the only other character whose case folds to one of these.
    if (kAnyCase && p[1] == '\xC5' && p[2] == '\xBF') return 3;
    return 0;
  }

  const char* gpt2_end(const char* begin) const {
    const char* p = begin;
    if (*p == '\'') {
      if (const std::size_t length = contraction<false>(p)) return p + length;
    }
    Char current = read(p);
    if (*p == ' ' && p + 1 < end) {
      const Char next = read(p + 1);
      if (next.kind != CharClass::space) {
        current = next;
        ++p;
      }
    }
    if (current.kind == CharClass::space) return space_end(begin);
    return skip(p + current.length, current.kind);
  }

  const char* dolma2_end(const char* begin) const {
    const char* p = begin;
    if (*p == '\'') {
      if (const std::size_t length = contraction<true>(p)) return p + length;
    }
    const Char current = read(p);
    p += current.length;
    if (current.kind == CharClass::letter) return skip(p, CharClass::letter);
    if (current.kind == CharClass::number) return up_to_three_digits(begin);
    const bool has_next = p < end;
    const Char next = has_next ? read(p) : Char{CharClass::space, 0};
    if (has_next && next.kind == CharClass::letter && !is_line_end(*begin)) return skip(p, CharClass::letter);
    if (current.kind == CharClass::other || (*begin == ' ' && has_next && next.kind == CharClass::other)) {
      p = skip(p, CharClass::other);
      while (p < end && is_line_end(*p)) ++p;
      return p;
    }
    return space_or_line_end(begin);
  }

  const char* up_to_three_digits(const char* p) const {
    for (int i = 0; i < 3 && p < end; ++i) {
      const Char next = read(p);
      if (next.kind != CharClass::number) break;
      p += next.length;
    }
    return p;
  }

  // \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last line end of the white space when there is one.
  const char* space_or_line_end(const char* begin) const {
    const char* after_line_end = nullptr;
    const char* p = begin;
    const char* last = begin;
    while (p < end) {
      const Char next = read(p);
      if (next.kind != CharClass::space) break;
      last = p;
      p += next.length;
      if (is_line_end(*last)) after_line_end = p;
    }
    if (after_line_end != nullptr) return after_line_end;
    return p < end && last > begin ? last : p;
  }
};

}  // namespace

const char* gpt2_word_end(const char* begin, const char* end) {
  return Scanner{CharTable::get(), end}.gpt2_end(begin);
}

const char* dolma2_word_end(const char* begin, const char* end) {
  return Scanner{CharTable::get(), end}.dolma2_end(begin);
}

}  // namespace norma
