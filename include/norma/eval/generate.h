// Sampling from a model, token by token with a key-value cache, for several prompts at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "norma/model/transformer.h"

namespace norma {

struct GenerateOptions {
  std::int64_t max_tokens = 128;
  double temperature = 1.0;  // 0: the most likely token
  std::int64_t top_k = 0;    // only the k most likely; 0: all
  double top_p = 1.0;        // only the smallest set of this probability (nucleus sampling, arXiv 1904.09751)
  std::uint64_t seed = 0;
  std::int64_t vocab_size = 0;              // ids beyond (padding rows) are never drawn
  std::optional<std::int64_t> end_of_text;  // stops here
  std::int64_t batch_rows = 8;              // prompts decoded together
  at::Device device = at::kCPU;
};

using TokenIds = std::vector<std::int64_t>;

enum class EndOfPrompt { stopped, end_of_text, length };  // length: max_tokens, or the longest context

// What happens on the way; any may be empty.
struct GenerateEvents {
  std::function<bool(std::size_t prompt, std::int64_t token)> token;  // false stops this prompt
  std::function<void(std::size_t prompt, EndOfPrompt end)> end;
  std::function<bool()> cancelled;  // true leaves at once, with what there is
};

// Continues each prompt (at least one id) until max_tokens, the end of text, or the model's longest context; results in
// the prompts' order. The draw of token i is a pure function of (seed, the prompt's index, i), and a prompt's logits do
// not depend on the others, beyond rounding. Prompts are read one by one, then decoded batch_rows at a time: one that
// ends gives its place to the next.
std::vector<TokenIds> generate(Transformer& model, UnitRunner& runner, const std::vector<TokenIds>& prompts,
                               const GenerateOptions& options, const GenerateEvents& events = {});

// Token i of a prompt, drawn from logits [V] (any floating type). DivergedError when they are not finite.
std::int64_t sample_token(const at::Tensor& logits, const GenerateOptions& options, std::size_t prompt,
                          std::uint64_t i);

}  // namespace norma
