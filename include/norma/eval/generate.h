// Sampling from a model, token by token with a key-value cache.
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
  at::Device device = at::kCPU;
};

// Continues `prompt` (at least one id) until max_tokens, the end of text, or the model's longest context. The draw of
// token i is a pure function of (seed, i). `on_token` (may be empty) sees each id as it comes; false stops.
std::vector<std::int64_t> generate(Transformer& model, UnitRunner& runner, const std::vector<std::int64_t>& prompt,
                                   const GenerateOptions& options, const std::function<bool(std::int64_t)>& on_token);

// One draw from logits [V] (any floating type).
std::int64_t sample_token(const at::Tensor& logits, const GenerateOptions& options, std::uint64_t index);

}  // namespace norma
