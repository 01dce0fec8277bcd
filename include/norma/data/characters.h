// Text in UTF-8 as Python's str sees it. All but strip() need well-formed UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace norma {

// Python's str.strip(): cuts Unicode's White_Space and U+001C..U+001F at both ends.
std::string_view strip(std::string_view text);

// Python's len(): code points.
std::int64_t count_characters(std::string_view text);

// The bytes of the first character; 0 for an empty text.
std::size_t first_character_bytes(std::string_view text);

// Python's str.lower() and str.capitalize() (the first character in title case, the rest in lower case), but one
// character for one: a character whose other case is longer (U+00DF) stays as it is, and a sigma is never a final one.
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);

}  // namespace norma
