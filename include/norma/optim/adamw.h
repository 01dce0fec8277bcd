// AdamW over flat segments, and clipping by the global norm.
//
// Decoupled weight decay (arXiv 1711.05101) as torch.optim.AdamW: p *= 1 - lr * wd; m = lerp(m, g, 1 - b1);
// v = b2 v + (1 - b2) g^2; p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps). The part of each unit that
// decays and the part that does not are updated in one call each. Frozen parts are left alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "norma/base/unit.h"
#include "norma/config/config.h"

namespace norma {

// Sum of squares of this rank's gradients, in float64. The global norm is the square root of its sum over all shards.
double squared_norm(const std::vector<FlatUnit>& units);

// OLMo's factor: min(1, max_norm / (norm + 1e-6)); 1 when max_norm is 0 (no clipping).
double clip_factor(double norm, double max_norm);

class AdamW {
 public:
  AdamW(const std::vector<FlatUnit>& units, const OptimConfig& config);

  // Updates every master weight once, with gradients times `clip`. Gradients may be overwritten.
  void step(double learning_rate, double clip);

  // The moments m and v, ordered like the units' flat buffers.
  const std::vector<at::Tensor>& exp_avg() const { return exp_avg_; }
  const std::vector<at::Tensor>& exp_avg_sq() const { return exp_avg_sq_; }
  std::int64_t step_count() const { return step_count_; }
  void set_step_count(std::int64_t steps) { step_count_ = steps; }

 private:
  void update(bool decays, double learning_rate, const at::Tensor& steps, const std::optional<at::Tensor>& scale);

  OptimConfig config_;
  std::vector<FlatUnit> units_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;  // m and v, [n] per unit
  std::int64_t step_count_ = 0;
};

}  // namespace norma
