#include "norma/train/train_step.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

namespace norma {

TrainStep::TrainStep(Transformer& model, ShardEngine& engine, AdamW& optimizer, StepOptions options)
    : model_(model), engine_(engine), optimizer_(optimizer), options_(std::move(options)) {}

void TrainStep::phase(std::string_view name) const {
  if (options_.after_phase) options_.after_phase(name);
}

StepResult TrainStep::run(const at::Tensor& ids, double learning_rate, std::int64_t step) {
  const double scale = 1.0 / static_cast<double>(ids.numel());
  const at::TensorOptions wide = at::TensorOptions().dtype(at::kDouble).device(ids.device());
  at::Tensor sums = at::zeros({2}, wide);  // CE and lse^2 over all targets
  engine_.clear_gradients();
  for (std::int64_t begin = 0; begin < ids.size(0); begin += options_.micro_batch) {
    const at::Tensor part = ids.narrow(0, begin, std::min(options_.micro_batch, ids.size(0) - begin));
    const CrossEntropy ce = model_.loss(part, {scale, options_.z_loss, options_.loss_chunk}, engine_);
    phase("forward");
    ce.loss.backward();
    const c10::NoGradGuard no_grad;
    sums.add_(at::stack({ce.token_ce.sum(at::kDouble), ce.token_lse.square().sum(at::kDouble)}));
    phase("backward");
  }
  StepResult result;
  result.grad_norm = gradient_norm(engine_.flat_units(), [](double sum) { return sum; });
  const at::Tensor on_host = sums.to(at::kCPU);
  result.cross_entropy = on_host[0].item<double>() * scale;
  result.z_loss = on_host[1].item<double>() * scale * options_.z_loss;
  if (!std::isfinite(result.cross_entropy) || !std::isfinite(result.grad_norm)) report_divergence(step, result);
  result.clip = clip_factor(result.grad_norm, options_.max_grad_norm);
  optimizer_.step(learning_rate, result.clip);
  engine_.refresh_compute();
  phase("optimizer");
  return result;
}

void TrainStep::report_divergence(std::int64_t step, const StepResult& result) const {
  const auto finite = [](const at::Tensor& t) { return at::isfinite(t).all().item<bool>(); };
  std::string culprit = "the activations (weights and gradients are finite)";
  const auto find = [&](bool weights) {
    for (std::size_t u = 0; u < engine_.flat_units().size(); ++u) {
      const FlatUnit& flat = engine_.flat_units()[u];
      for (const TensorSpan& span : engine_.layout().units[u].tensors) {
        if (finite(ShardEngine::view(weights ? flat.master : flat.gradient, span))) continue;
        culprit = cat(weights ? "the weight " : "the gradient of ", span.name);
        return true;
      }
    }
    return false;
  };
  if (!find(true)) find(false);
  throw DivergedError(cat("[train] step ", step, ": loss ", result.cross_entropy, ", gradient norm ", result.grad_norm,
                          "; the first tensor that is not finite: ", culprit,
                          ". No weight was changed. Try a lower optim.lr, a longer schedule.warmup, or resume from an "
                          "earlier checkpoint"));
}

}  // namespace norma
