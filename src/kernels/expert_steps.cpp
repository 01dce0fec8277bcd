#include "expert_steps.h"

#include <ATen/ATen.h>

#include "norma/kernels/ops.h"

namespace norma {

at::Tensor spread_rows(const at::Tensor& x, const ExpertOrder& order) {
  const std::int64_t choices = order.pairs.numel() / std::max<std::int64_t>(x.size(0), 1);
  return x.index_select(0, order.pairs.floor_divide(choices));
}

at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& weights, const ExpertOrder& order) {
  const std::int64_t tokens = weights.size(0), choices = weights.size(1);
  const at::Tensor wide = rows.index_select(0, order.places)
                              .view({tokens, choices, rows.size(1)})
                              .to(accumulate_type(rows.scalar_type()));          // [N, k, D]
  return at::bmm(weights.unsqueeze(1), wide).squeeze(1).to(rows.scalar_type());  // [N, D]
}

at::Tensor activate(const at::Tensor& up_gate) {
  const auto halves = up_gate.chunk(2, -1);
  return at::silu(halves[1]).mul_(halves[0]);
}

ActivationGradients activation_backward(const at::Tensor& grad, const at::Tensor& up_gate, const at::Tensor& weights) {
  const auto halves = up_gate.chunk(2, -1);  // up, gate: [N k, F] each
  const at::Tensor &up = halves[0], &gate = halves[1];
  const at::Tensor column = weights.unsqueeze(1).to(grad.scalar_type());
  const at::Tensor silu = at::silu(gate);
  const at::Tensor plain = silu * up;
  const at::Tensor weighted_grad = grad * column;
  at::Tensor out = at::empty_like(up_gate);
  const auto parts = out.chunk(2, -1);
  at::Tensor grad_up = parts[0], grad_gate = parts[1];
  at::mul_out(grad_up, weighted_grad, silu);
  grad_gate.copy_(at::silu_backward(weighted_grad * up, gate));
  return {out, plain * column, at::sum(grad * plain, at::IntArrayRef{1}, false, weights.scalar_type())};
}

}  // namespace norma
