// Sampling from a model, token by token with a key-value cache, for several prompts at once; and the text of tokens
// that come one by one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "norma/data/tokenizer.h"
#include "norma/model/transformer.h"

namespace norma {

struct GenerateOptions {
  std::int64_t max_tokens = 128;
  double temperature = 1.0;  // 0: the most likely token
  std::int64_t top_k = 0;    // draw from the k most likely tokens only; 0: from all
  double top_p = 1.0;        // draw from the smallest set of this probability (nucleus sampling, arXiv 1904.09751)
  std::uint64_t seed = 0;
  std::int64_t vocab_size = 0;              // ids from here on (padding rows) are never drawn
  std::optional<std::int64_t> end_of_text;  // a prompt ends at this token
  std::int64_t batch_rows = 8;              // prompts decoded together
  at::Device device = at::kCPU;
};

using TokenIds = std::vector<std::int64_t>;

enum class EndOfPrompt { stopped, end_of_text, length };  // length: max_tokens, or the longest context

// Called while generate() runs; any may be empty.
struct GenerateEvents {
  std::function<bool(std::size_t prompt, std::int64_t token)> token;  // false stops this prompt
  std::function<void(std::size_t prompt, EndOfPrompt end)> end;
  std::function<bool()> cancelled;  // true ends generate() at once, with the tokens so far
};

// Continues each prompt (at least one id) until max_tokens, the end of text, or the model's longest context. Results
// are in the prompts' order. The draw of token i is a pure function of (seed, the prompt's index, i), and a prompt's
// logits do not depend on the others, beyond rounding. Prompts are read one by one, then decoded batch_rows at a time;
// when one ends the next takes its row.
std::vector<TokenIds> generate(Transformer& model, UnitRunner& runner, const std::vector<TokenIds>& prompts,
                               const GenerateOptions& options, const GenerateEvents& events = {});

// Token i of a prompt, drawn from logits [V] of any floating type. Throws DivergedError when they are not finite.
std::int64_t sample_token(const at::Tensor& logits, const GenerateOptions& options, std::size_t prompt,
                          std::uint64_t i);

// The text of tokens that come one by one, up to a stop text.
class TextStream {
 public:
  // Special tokens are left out of the text. No stop text may be empty.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops);

  // Takes the next token. False once the text holds a stop text, which may reach over several tokens; the text then
  // ends before it.
  bool add(std::int64_t token);
  // No token follows: what was held back belongs to the text.
  void finish();

  const std::string& text() const { return text_; }
  // How many bytes of text() no later token can change. What may still become a character or a stop text is held back.
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
