#include "norma/eval/perplexity.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace norma {

double Perplexity::perplexity() const {
  return std::exp(cross_entropy);
}

Perplexity evaluate_perplexity(Transformer& model, UnitRunner& runner, const TokenDataset& dataset,
                               const PerplexityOptions& options) {
  const c10::NoGradGuard no_grad;
  const std::int64_t length = dataset.sequence_length();
  const std::int64_t total =
      options.max_instances > 0 ? std::min(options.max_instances, dataset.num_instances()) : dataset.num_instances();
  double sum = 0.0;
  Perplexity result;
  for (std::int64_t begin = 0; begin < total; begin += options.batch_size) {
    const std::int64_t count = std::min(options.batch_size, total - begin);
    at::Tensor ids = at::empty({count, length}, at::kLong);
    for (std::int64_t i = 0; i < count; ++i) {
      dataset.read(begin + i, {ids.mutable_data_ptr<std::int64_t>() + i * length, static_cast<std::size_t>(length)});
    }
    const CrossEntropy ce = model.loss(ids.to(options.device), {1.0, 0.0, options.loss_chunk}, runner);
    const at::Tensor of_instances = ce.token_ce.sum(1, /*keepdim=*/false, at::kDouble);  // [count]
    sum += of_instances.sum().item<double>() / static_cast<double>(length - 1);
    result.instances += count;
    if (options.progress && !options.progress(result.instances, total)) break;
  }
  result.cross_entropy = sum / static_cast<double>(result.instances);
  result.complete = result.instances == total;
  return result;
}

}  // namespace norma
