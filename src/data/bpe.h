// Byte-pair encoding of one word: its characters (or bytes, in the byte-level alphabet) are joined pair by pair until
// no merge applies. The pair whose merge comes first in the list is joined first; of equal pairs it is the leftmost.
// Sennrich et al., "Neural machine translation of rare words with subword units", ACL 2016.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "norma/base/json.h"

namespace norma {

// The byte-level alphabet of GPT-2: one printable character for each byte, so that tokens can be written in JSON.
namespace byte_alphabet {
std::string character_of(unsigned char byte);
// The bytes that a token stands for; nullopt for a token with a character outside of the alphabet.
std::optional<std::string> bytes_of(std::string_view token);
}  // namespace byte_alphabet

// The tokens of recent words: a set-associative cache of fixed size with 4 ways. It is not shared between threads.
class WordCache {
 public:
  static constexpr std::size_t kMaxWord = 32;
  static constexpr std::size_t kMaxIds = 7;

  WordCache();

  struct Key {
    std::array<std::uint64_t, kMaxWord / 8> words;
    std::uint64_t hash;
    std::uint8_t length;
  };
  // The word must have 1 to kMaxWord bytes.
  static Key key_of(std::string_view word);

  // Appends the ids of a known word; false when it is not known.
  bool find(const Key& key, std::vector<std::uint32_t>& out) const;
  void insert(const Key& key, const std::uint32_t* ids, std::size_t count);

 private:
  struct alignas(64) Slot {
    std::array<std::uint64_t, kMaxWord / 8> words;
    std::uint8_t length;  // 0: empty
    std::uint8_t count;
    std::array<std::uint32_t, kMaxIds> ids;
  };
  static constexpr std::size_t kSlots = std::size_t{1} << 16;
  static constexpr std::size_t kWays = 4;

  std::vector<Slot> slots_;
};

class Bpe {
 public:
  static constexpr std::size_t kMaxVocab = 1'000'000;
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  // Buffers of one thread.
  struct Work {
    struct Symbol {
      std::uint32_t id;
      std::uint32_t rank;    // of the merge with the next symbol; kNone: they do not merge
      std::uint32_t merged;  // what that merge gives
    };
    struct Link {
      std::uint32_t previous, next;  // positions; kNone at the ends
    };
    std::vector<Symbol> symbols;
    std::vector<Link> links;
    std::vector<std::uint64_t> queue;
  };

  // Reads the "model" component. byte_level: words are bytes in the byte-level alphabet, else characters.
  Bpe(const JsonObject& model, bool byte_level);

  // Appends the tokens of one word. A symbol without a token is left out: there is no unknown token.
  void encode(std::string_view word, std::vector<std::uint32_t>& out, Work& work, WordCache* cache) const;

  const std::unordered_map<std::string, std::uint32_t>& vocab() const { return vocab_; }

 private:
  struct MergeSlot {
    std::uint64_t pair;
    std::uint32_t rank, merged;
  };

  void read_vocab(const JsonObject& vocab);
  void read_merges(const JsonObject& model);
  void add_merge(const JsonObject& model, const std::string& left, const std::string& right, std::uint32_t rank);
  void find_symbols(bool byte_level);
  MergeSlot& merge_slot(std::uint64_t pair);
  void look_up_merge(Work::Symbol& symbol, std::uint32_t right) const;
  void start(std::string_view word, std::vector<Work::Symbol>& symbols) const;
  void merge_short(std::vector<Work::Symbol>& symbols) const;
  void merge_long(Work& work) const;
  void encode_uncached(std::string_view word, std::vector<std::uint32_t>& out, Work& work) const;

  std::unordered_map<std::string, std::uint32_t> vocab_;
  std::unordered_map<std::string, std::uint32_t> whole_words_;  // for ignore_merges: word to id
  std::unordered_map<char32_t, std::uint32_t> char_ids_;        // without the byte-level alphabet
  std::array<std::uint32_t, 256> byte_ids_{};
  std::vector<MergeSlot> merges_;  // open addressing, at most half full
  int merge_shift_ = 0;
  bool byte_level_;
};

}  // namespace norma
