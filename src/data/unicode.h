// UTF-8, character classes and NFC, with the two versions of Unicode that the Hugging Face tokenizers library
// uses: 16.0 for the classes of regular expressions, 9.0 for normalisation.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace norma {

struct DecodedChar {
  char32_t code;
  std::uint32_t length;  // bytes
};

// The character at p, which must start a well-formed sequence.
inline DecodedChar decode_utf8(const char* p) {
  const auto byte = [p](int i) { return static_cast<unsigned char>(p[i]); };
  const auto tail = [&](int i) { return static_cast<char32_t>(byte(i) & 0x3F); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(static_cast<char32_t>(lead & 0x1F) << 6) | tail(1), 2};
  if (lead < 0xF0) return {(static_cast<char32_t>(lead & 0x0F) << 12) | (tail(1) << 6) | tail(2), 3};
  return {(static_cast<char32_t>(lead & 0x07) << 18) | (tail(1) << 12) | (tail(2) << 6) | tail(3), 4};
}

void append_utf8(std::string& out, char32_t code);

bool is_valid_utf8(std::string_view bytes);

// Appends `bytes` with every maximal ill-formed part replaced by U+FFFD (the practice that the Unicode
// standard recommends in section 3.9, and what Python's errors="replace" does).
void append_repaired_utf8(std::string_view bytes, std::string& out);

enum class CharClass : std::uint8_t { other = 0, letter = 1, number = 2, space = 3 };

// A two-stage table of the classes of all code points, and of which ones NFC can copy without looking at their
// neighbours.
class CharTable {
 public:
  // The table, built on first use.
  static const CharTable& get();

  CharClass kind(char32_t code) const { return static_cast<CharClass>(entry(code) & kKindMask); }
  CharClass ascii_kind(unsigned char byte) const { return static_cast<CharClass>(ascii_[byte]); }
  // Not changed by NFC, combining class 0, and never joined to the character before it.
  bool nfc_inert(char32_t code) const { return (entry(code) & kNotInert) == 0; }

 private:
  static constexpr std::uint8_t kKindMask = 3;
  static constexpr std::uint8_t kNotInert = 4;
  static constexpr std::size_t kBlocks = 0x110000 / 256;

  CharTable();
  std::uint8_t entry(char32_t code) const { return flat_[index_[code >> 8] * 256U + (code & 255U)]; }

  std::array<std::uint16_t, kBlocks> index_{};
  std::vector<std::uint8_t> flat_;
  std::array<std::uint8_t, 128> ascii_{};
};

// Whether the character is a word character, which an added token with single_word may not touch: word_set() and
// joiners.
bool is_word_char(char32_t code);

std::uint8_t combining_class(char32_t code);

// Canonical composition. Returns false and leaves `out` alone when the text is in normal form already, as far as a
// quick look shows; else `out` becomes the normal form. The text must be well-formed UTF-8.
bool to_nfc(std::string_view text, std::string& out);

}  // namespace norma
