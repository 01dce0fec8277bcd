#include "norma/eval/perplexity.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace norma {

double Perplexity::perplexity() const {
  return std::exp(cross_entropy);
}

namespace {

at::Tensor read_instances(const TokenDataset& dataset, std::int64_t begin, std::int64_t count) {
  const std::int64_t length = dataset.sequence_length();
  at::Tensor ids = at::empty({count, length}, at::kLong);  // [count, T]
  for (std::int64_t i = 0; i < count; ++i) {
    dataset.read(begin + i, {ids.mutable_data_ptr<std::int64_t>() + i * length, static_cast<std::size_t>(length)});
  }
  return ids;
}

}  // namespace

Perplexity evaluate_perplexity(Transformer& model, UnitRunner& runner, const TokenDataset& dataset, Peers& peers,
                               const PerplexityOptions& options) {
  const c10::NoGradGuard no_grad;
  const auto targets = static_cast<double>(dataset.sequence_length() - 1);
  const std::int64_t total =
      options.max_instances > 0 ? std::min(options.max_instances, dataset.num_instances()) : dataset.num_instances();
  const std::int64_t at_once = options.batch_size * peers.size();
  double sum = 0.0;
  Perplexity result;
  for (std::int64_t begin = 0; begin < total; begin += at_once) {
    const std::int64_t mine = begin + options.batch_size * peers.rank();
    const std::int64_t count = std::clamp<std::int64_t>(total - mine, 0, options.batch_size);
    // A rank without an instance left makes a pass that does not count: units may need every rank.
    const at::Tensor ids = read_instances(dataset, count > 0 ? mine : 0, std::max<std::int64_t>(count, 1));
    const ModelLoss ce = model.loss(ids.to(options.device), {1.0, 0.0, options.loss_chunk, 0.0}, runner);
    if (count > 0) sum += ce.token_ce.sum(at::kDouble).item<double>() / targets;
    result.instances = std::min(begin + at_once, total);
    std::vector<double> refusals = {options.progress && !options.progress(result.instances, total) ? 1.0 : 0.0};
    peers.sum(refusals);
    if (refusals[0] > 0.0) break;
  }
  std::vector<double> sums = {sum};
  peers.sum(sums);
  result.cross_entropy = sums[0] / static_cast<double>(result.instances);
  result.complete = result.instances == total;
  return result;
}

}  // namespace norma
