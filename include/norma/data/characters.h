// Characters of well-formed UTF-8, as Python's str sees them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace norma {

// Python's len(): code points.
std::int64_t count_characters(std::string_view text);

// Bytes of the first character, 0 for an empty text.
std::size_t first_character_bytes(std::string_view text);

// Python's str.lower() and str.capitalize() (the first character in title case, the rest in lower case), one character
// for one: characters whose other case is longer (as that of U+00DF) stay, and a sigma is never final.
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);

}  // namespace norma
