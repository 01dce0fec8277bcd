#include "norma/data/characters.h"

#include <algorithm>
#include <array>

#include <utf8proc.h>

#include "unicode.h"

namespace norma {

std::int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; });
}

std::size_t first_character_bytes(std::string_view text) {
  return text.empty() ? 0 : decode_utf8(text.data()).length;
}

std::string_view strip(std::string_view text) {
  // Every one of these is a whole UTF-8 character, and no character ends in another, so comparing bytes is enough.
  static constexpr std::array<std::string_view, 29> kSpaces{
      "\x09",   "\x0a",   "\x0b",   "\x0c",   "\x0d",   "\x1c",   "\x1d",   "\x1e",   "\x1f",   "\x20",
      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
      "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  const auto cut = [&](auto matches, auto remove) {
    while (true) {
      const auto found = std::find_if(kSpaces.begin(), kSpaces.end(), matches);
      if (found == kSpaces.end()) return;
      remove(found->size());
    }
  };
  cut([&](std::string_view space) { return text.starts_with(space); },
      [&](std::size_t bytes) { text.remove_prefix(bytes); });
  cut([&](std::string_view space) { return text.ends_with(space); },
      [&](std::size_t bytes) { text.remove_suffix(bytes); });
  return text;
}

std::string lower(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const DecodedChar next = decode_utf8(text.data() + at);
    append_utf8(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(next.code))));
    at += next.length;
  }
  return result;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const DecodedChar first = decode_utf8(text.data());
  std::string result;
  append_utf8(result, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(first.code))));
  return result + lower(text.substr(first.length));
}

}  // namespace norma
