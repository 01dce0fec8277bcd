#include "norma/eval/generate.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"
#include "norma/base/random.h"

namespace norma {
namespace {

// Ids that top_k and top_p leave, most likely first, with their probabilities (not renormalized).
struct Candidates {
  at::Tensor ids;            // [n] int64
  std::vector<double> mass;  // running sum of probabilities
};

Candidates candidates(const at::Tensor& logits, const GenerateOptions& options) {
  const at::Tensor wide = logits.narrow(0, 0, options.vocab_size).to(at::kCPU, at::kDouble);
  const std::int64_t keep = options.top_k > 0 ? std::min(options.top_k, options.vocab_size) : options.vocab_size;
  auto [values, ids] = wide.div(options.temperature).topk(keep);
  const at::Tensor probability = at::softmax(values, 0);
  Candidates left{ids, {}};
  double sum = 0.0;
  const double* p = probability.const_data_ptr<double>();
  for (std::int64_t i = 0; i < keep && (i == 0 || sum < options.top_p); ++i) left.mass.push_back(sum += p[i]);
  return left;
}

}  // namespace

std::int64_t sample_token(const at::Tensor& logits, const GenerateOptions& options, std::uint64_t index) {
  if (options.temperature == 0.0) return logits.narrow(0, 0, options.vocab_size).argmax().item<std::int64_t>();
  const Candidates left = candidates(logits, options);
  const double point = uniform(stream_key(options.seed, "generate"), index) * left.mass.back();
  const auto chosen = std::upper_bound(left.mass.begin(), left.mass.end(), point) - left.mass.begin();
  const auto last = static_cast<std::int64_t>(left.mass.size()) - 1;
  return left.ids[std::min<std::int64_t>(chosen, last)].item<std::int64_t>();
}

std::vector<std::int64_t> generate(Transformer& model, UnitRunner& runner, const std::vector<std::int64_t>& prompt,
                                   const GenerateOptions& options, const std::function<bool(std::int64_t)>& on_token) {
  NORMA_CHECK(!prompt.empty(), "[generate] the prompt must hold at least one token");
  const c10::NoGradGuard no_grad;
  const auto length = static_cast<std::int64_t>(prompt.size());
  const std::int64_t room = model.config().sequence_length - length;
  DecodeCache cache;
  std::vector<std::int64_t> out;
  at::Tensor ids = at::tensor(prompt, at::kLong).unsqueeze(0).to(options.device);  // [1, T]
  for (std::int64_t i = 0; i < std::min(options.max_tokens, room); ++i) {
    const at::Tensor logits = model.logits(ids, runner, &cache);  // [1, T, V]
    const std::int64_t token = sample_token(logits[0][-1], options, static_cast<std::uint64_t>(i));
    if (token == options.end_of_text) break;
    out.push_back(token);
    if (on_token && !on_token(token)) break;
    ids = at::full({1, 1}, token, at::TensorOptions().dtype(at::kLong).device(options.device));
  }
  return out;
}

}  // namespace norma
