// Tokens as text while they come, up to a stop text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "norma/data/tokenizer.h"

namespace norma {

class TextStream {
 public:
  // Special tokens are left out. `stops`: none of them empty.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops);

  // The next token; false once the text holds a stop text, across the borders of tokens too. It ends before that.
  bool add(std::int64_t token);
  // Nothing follows: what was held back belongs to the text.
  void finish();

  const std::string& text() const { return text_; }
  // How much of text() nothing can change any more: what may become a character or a stop text is held back.
  std::size_t settled() const;

 private:
  bool cut_at_stop(std::size_t from);

  Tokenizer tokenizer_;  // copies share their tables
  std::vector<std::string> stops_;
  std::string text_;
  std::vector<std::uint32_t> pending_;  // tokens that end inside a character
  bool done_ = false;
};

}  // namespace norma
