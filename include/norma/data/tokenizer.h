// Text to token ids and back: byte-level BPE as written in a Hugging Face `tokenizer.json`.
//
// Read are: model BPE (merges as "a b" or ["a", "b"], ignore_merges); normalizer NFC; pre-tokenizers ByteLevel, Split
// and Digits; decoder ByteLevel; added tokens with all their flags; any Sequence of these. A component of another kind
// is refused by name, and so are truncation, padding, and what the Hugging Face library refuses or would number
// differently. No special tokens are added around a text: post-processors that would do so are ignored.
//
// The ids are those of Hugging Face tokenizers 0.22: character classes are those of Unicode 16.0, and NFC uses the
// combining classes of Unicode 9.0, as that library does. Two things that it does may surprise: a byte without a token
// is left out, and a Split need not keep the whole text.
//
// Text need not be valid UTF-8: every maximal ill-formed part is read as U+FFFD, as by Python's errors="replace".
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/file.h"

namespace norma {

inline constexpr const char* kTokenizerFile = "tokenizer.json";               // its name beside tokens and weights
inline constexpr std::uint64_t kMaxTokenizerBytes = std::uint64_t{64} << 20;  // of a tokenizer.json

class Tokenizer {
  struct Impl;
  struct Work;

 public:
  // What one thread keeps between calls of encode(): the tokens of recent words (4 MiB), and buffers that grow with the
  // longest text. It belongs to no particular tokenizer: used with another one it starts anew.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(Scratch&&) noexcept;
    Scratch& operator=(Scratch&&) noexcept;
    // encode() ends with an Error soon after *stop becomes true. Null: never. *stop must outlive its use.
    void stop_on(const std::atomic<bool>* stop);

   private:
    friend class Tokenizer;
    std::unique_ptr<Work> work_;
  };

  // Throws DataError naming the file and the component: missing, larger than 64 MiB, not JSON, more than a
  // million tokens, a merge of tokens that do not exist, a component that is not supported.
  static Tokenizer load(const fs::path& tokenizer_json);
  // The same from text; `where` names it in errors.
  static Tokenizer from_json(std::string_view json, const std::string& where);

  // Ids of a text, no special tokens added; text that spells a special token becomes that token. All const
  // members may be called from several threads at once, with one Scratch per thread.
  std::vector<std::uint32_t> encode(std::string_view text) const;
  // The form for bulk work: appends the ids to `out`. Throws DataError when the text is longer than 2 GiB, or when the
  // expression of a Split, other than those of the OLMo and GPT-2 tokenizers, needs more steps than allowed.
  void encode(std::string_view text, std::vector<std::uint32_t>& out, Scratch& scratch) const;

  // The text of the tokens, with ill-formed UTF-8 replaced by U+FFFD. Ids without a token give nothing. skip_special
  // leaves out the added tokens that are marked special.
  std::string decode(std::span<const std::uint32_t> ids, bool skip_special = false) const;

  // By id: how many bytes of text a token stands for; 0 for special tokens and for ids without a token.
  std::vector<std::int64_t> token_bytes() const;

  std::int64_t vocab_size() const;  // largest id + 1
  // The id of an added token by its content, of another token by its spelling in the file.
  std::optional<std::uint32_t> token_id(std::string_view token) const;
  std::optional<std::uint32_t> eos_id() const;  // of "<|endoftext|>"
  const std::string& checksum() const;          // of the file's bytes, see base/file.h

 private:
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;  // copies share it
};

}  // namespace norma
