// A small byte-level tokenizer.json as a JSON value, which tests may edit, and random text for it.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace norma::testing {

inline void append_code_point(std::string& out, std::uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int tails = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned char kLeads[] = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(kLeads[tails] | (code >> (6 * tails)));
  for (int i = tails - 1; i >= 0; --i) out += static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F));
}

// The character that stands for a byte in GPT-2's alphabet.
inline std::string byte_character(unsigned byte) {
  const auto printable = [](unsigned b) { return (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD); };
  std::uint32_t code = byte;
  if (!printable(byte)) {
    code = 0x100;
    for (unsigned b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  std::string text;
  append_code_point(text, code);
  return text;
}

using MergeList = std::vector<std::pair<std::string, std::string>>;

inline const MergeList kSmallMerges = {
    {"l", "o"}, {"lo", "w"}, {"e", "r"}, {"Ġ", "low"}, {"Ġlow", "er"}, {"a", "a"},   {"aa", "aa"}, {"w", "er"},
    {"Ã", "©"}, {"Ġ", "Ġ"},  {"1", "2"}, {"n", "e"},   {"ne", "w"},    {"Ġ", "new"}, {"b", "aa"},  {"i", "n"}};

// Ids 0 to 255 are the bytes, then one per merge, then <|endoftext|>, which is special.
inline nlohmann::json small_tokenizer_json(const MergeList& merges = kSmallMerges) {
  nlohmann::json model = {
      {"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"merges", nlohmann::json::array()}};
  nlohmann::json& vocab = model["vocab"];
  for (unsigned byte = 0; byte < 256; ++byte) vocab[byte_character(byte)] = byte;
  for (const auto& [left, right] : merges) {
    if (!vocab.contains(left + right)) vocab[left + right] = vocab.size();
    model["merges"].push_back({left, right});
  }
  const std::size_t eos = vocab.size();
  const nlohmann::json level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", eos},
             {"content", "<|endoftext|>"},
             {"single_word", false},
             {"lstrip", false},
             {"rstrip", false},
             {"normalized", false},
             {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", level},
          {"post_processor", nullptr},
          {"decoder", level},
          {"model", model}};
}

// Well-formed UTF-8 of every length, with many spaces, apostrophes and characters that the merges know.
inline std::string random_text(std::mt19937& random, int characters) {
  constexpr std::string_view kCommon = "   \n\r\t'lowernewaa12 b,.-sStTdDmM";
  std::string text;
  for (int i = 0; i < characters; ++i) {
    const std::uint32_t kind = random() % 10;
    if (kind < 7) {
      text += kCommon[random() % kCommon.size()];
      continue;
    }
    std::uint32_t code = kind == 7 ? random() % 0x250 : kind == 8 ? random() % 0x10000 : random() % 0x110000;
    if (code >= 0xD800 && code < 0xE000) code = 0x2003;  // a wide space instead of a surrogate, which is no character
    append_code_point(text, code);
  }
  return text;
}

}  // namespace norma::testing
