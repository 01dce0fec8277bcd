#include "norma/optim/adamw.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace norma {

// The norm in float64 needs a copy in float64, so it is taken piece by piece.
double squared_norm(const std::vector<FlatUnit>& units) {
  constexpr std::int64_t kPiece = 1 << 22;
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const FlatUnit& unit : units) {
    for (const at::Tensor& piece : unit.gradient.split(kPiece)) {
      norms.push_back(at::linalg_vector_norm(piece, 2, std::nullopt, false, at::kDouble));
    }
  }
  return at::stack(norms).square_().sum().item<double>();
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0.0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
}

AdamW::AdamW(const std::vector<FlatUnit>& units, const OptimConfig& config) : config_(config), units_(units) {
  for (const FlatUnit& unit : units_) {
    exp_avg_.push_back(at::zeros_like(unit.master));
    exp_avg_sq_.push_back(at::zeros_like(unit.master));
  }
}

void AdamW::step(double learning_rate, double clip) {
  if (units_.empty()) return;
  const c10::NoGradGuard no_grad;
  ++step_count_;
  const auto scalar = at::TensorOptions().dtype(at::kFloat).device(units_[0].master.device());
  const at::Tensor steps = at::full({}, static_cast<double>(step_count_), scalar);
  std::optional<at::Tensor> scale;
  if (clip != 1.0 && units_[0].master.scalar_type() == at::kDouble) {
    for (FlatUnit& unit : units_) unit.gradient.mul_(clip);  // the kernel's factor is float32: too coarse for fp64
  } else if (clip != 1.0) {
    scale = at::full({}, 1.0 / clip, scalar);  // the kernel divides by it
  }
  update(true, learning_rate, steps, scale);
  update(false, learning_rate, steps, scale);
}

void AdamW::update(bool decays, double learning_rate, const at::Tensor& steps, const std::optional<at::Tensor>& scale) {
  std::vector<at::Tensor> weights, gradients, m, v, counts;
  for (std::size_t u = 0; u < units_.size(); ++u) {
    const FlatUnit& unit = units_[u];
    const std::int64_t begin = decays ? 0 : unit.decay_end;
    const std::int64_t length = (decays ? unit.decay_end : unit.trained_end) - begin;
    if (length == 0) continue;
    weights.push_back(unit.master.narrow(0, begin, length));
    gradients.push_back(unit.gradient.narrow(0, begin, length));
    m.push_back(exp_avg_[u].narrow(0, begin, length));
    v.push_back(exp_avg_sq_[u].narrow(0, begin, length));
    counts.push_back(steps);
  }
  if (weights.empty()) return;
  at::_fused_adamw_(weights, gradients, m, v, {}, counts, learning_rate, config_.betas[0], config_.betas[1],
                    decays ? config_.weight_decay : 0.0, config_.eps, /*amsgrad=*/false, /*maximize=*/false, scale,
                    /*found_inf=*/std::nullopt);
}

}  // namespace norma
