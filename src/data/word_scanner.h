// Hand-written scanners for the two regular expressions that the OLMo tokenizers split text with. The matches of either
// tile a text, so the next word begins where the last one ends. A scan goes back by one character at most.
#pragma once

#include <string_view>

namespace norma {

// GPT-2's, in ByteLevel with use_regex.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// dolma2's (and Llama 3's), in a Split.
inline constexpr std::string_view kDolma2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The end of the word that begins at `begin`. The text [begin, end) must not be empty and must be well-formed UTF-8.
using WordEnd = const char* (*)(const char* begin, const char* end);
const char* gpt2_word_end(const char* begin, const char* end);
const char* dolma2_word_end(const char* begin, const char* end);

}  // namespace norma
