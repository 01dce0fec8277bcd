#include "parameter_metrics.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/text.h"

namespace norma {
namespace {

void add_statistics(const std::string& name, const at::Tensor& values, Metrics& metrics) {
  const at::Tensor absolute = values.abs();
  const at::Tensor statistics =
      at::stack({absolute.min(), absolute.max(), values.mean(), at::linalg_vector_norm(values)})
          .to(at::kCPU, at::kDouble);
  const char* const names[] = {".min", ".max", ".avg", ".norm"};
  for (int i = 0; i < 4; ++i) metrics.emplace_back(name + names[i], statistics[i].item<double>());
}

}  // namespace

void add_parameter_metrics(const ShardEngine& engine, const AdamW& optimizer, Metrics& metrics) {
  const c10::NoGradGuard no_grad;
  for (std::size_t u = 0; u < engine.flat_units().size(); ++u) {
    const FlatUnit& flat = engine.flat_units()[u];
    for (const TensorSpan& span : engine.layout().units[u].tensors) {
      add_statistics("optim/param/" + span.name, ShardEngine::view(flat.master, span), metrics);
      add_statistics("optim/grad/" + span.name, ShardEngine::view(flat.gradient, span), metrics);
      add_statistics("optim/exp_avg/" + span.name, ShardEngine::view(optimizer.exp_avg()[u], span), metrics);
      add_statistics("optim/exp_avg_sq/" + span.name, ShardEngine::view(optimizer.exp_avg_sq()[u], span), metrics);
    }
  }
}

}  // namespace norma
