#include "parameter_metrics.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace norma {
namespace {

using metrics::ParameterKind, metrics::Statistic;

constexpr ParameterKind kKinds[] = {ParameterKind::param, ParameterKind::grad, ParameterKind::exp_avg,
                                    ParameterKind::exp_avg_sq};
constexpr std::size_t kNumKinds = std::size(kKinds);

// Statistics of this rank's part of every tensor of every kind. Over ranks, sums are added up and minima compared.
struct Statistics {
  std::vector<double> sums;    // two for each tensor: sum, sum of squares
  std::vector<double> lowest;  // two for each tensor: min |x|, -max |x|

  explicit Statistics(std::size_t tensors)
      : sums(2 * tensors, 0.0), lowest(2 * tensors, std::numeric_limits<double>::infinity()) {}

  void add(std::size_t tensor, const at::Tensor& values) {
    const at::Tensor absolute = values.abs();
    const at::Tensor four = at::stack({absolute.min(), absolute.max(), values.sum(), at::linalg_vector_norm(values)})
                                .to(at::kCPU, at::kDouble);
    const double norm = four[3].item<double>();
    lowest[2 * tensor] = four[0].item<double>();
    lowest[2 * tensor + 1] = -four[1].item<double>();
    sums[2 * tensor] = four[2].item<double>();
    sums[2 * tensor + 1] = norm * norm;
  }
};

}  // namespace

void add_parameter_metrics(const ShardEngine& engine, const AdamW& optimizer, Peers& peers, double clip,
                           Metrics& metrics) {
  const c10::NoGradGuard no_grad;
  const std::vector<const TensorSpan*> tensors = engine.layout().tensors();
  Statistics all(tensors.size() * kNumKinds);
  if (engine.mesh().replica == 0) {  // the other replicas hold the same values
    for (const ShardPiece& piece : engine.pieces()) {
      const FlatUnit& flat = engine.flat_units()[piece.unit];
      const at::Tensor* const shards[] = {&flat.master, &flat.gradient, &optimizer.exp_avg()[piece.unit],
                                          &optimizer.exp_avg_sq()[piece.unit]};
      for (std::size_t k = 0; k < kNumKinds; ++k) {
        all.add(piece.number * kNumKinds + k, values_of(piece, *shards[k]));
      }
    }
  }
  peers.sum(all.sums);
  peers.minimum(all.lowest);
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    for (std::size_t k = 0; k < kNumKinds; ++k) {
      const std::size_t i = 2 * (t * kNumKinds + k);
      const double scale = kKinds[k] == ParameterKind::grad ? 1.0 / clip : 1.0;
      const auto add = [&](Statistic statistic, double value) {
        metrics.emplace_back(metrics::parameter(kKinds[k], tensors[t]->name, statistic), value * scale);
      };
      add(Statistic::min, all.lowest[i]);
      add(Statistic::max, -all.lowest[i + 1]);
      add(Statistic::avg, all.sums[i] / static_cast<double>(tensors[t]->numel));
      add(Statistic::norm, std::sqrt(all.sums[i + 1]));
    }
  }
  metrics.emplace_back(metrics::kClippingRate, clip < 1.0 ? 1.0 : 0.0);
}

}  // namespace norma
