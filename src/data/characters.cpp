#include "norma/data/characters.h"

#include <algorithm>

#include <utf8proc.h>

#include "unicode.h"

namespace norma {

std::int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; });
}

std::size_t first_character_bytes(std::string_view text) {
  return text.empty() ? 0 : decode_utf8(text.data()).length;
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
