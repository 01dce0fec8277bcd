// The pieces between the experts' matrix products (loops of our own on a CPU, ATen's calls elsewhere), rows in the
// experts' order (a row is a place of ExpertOrder).
#pragma once

#include <ATen/core/Tensor.h>

#include "norma/kernels/experts.h"

namespace norma {

// x [N, D] -> [N k, D]: the token of each place.
at::Tensor spread_rows(const at::Tensor& x, const ExpertOrder& order);

// rows [N k, D], weights [N, k] (undefined: ones) -> [N, D]: the weighted sum of each token's places.
at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& weights, const ExpertOrder& order, std::int64_t tokens);

// silu(gate) * up of [N k, 2F] -> [N k, F].
at::Tensor activate(const at::Tensor& up_gate);

// What the backward pass makes of the activation at once, from d loss / d (activation, not yet weighted).
struct ActivationGradients {
  at::Tensor up_gate;   // [N k, 2F], weighted
  at::Tensor weighted;  // [N k, F]: the weighted activation itself, for the gradient of `down`
  at::Tensor weights;   // [N k] d loss / d weight of each place, in accumulate_type
};
// weights: [N k], one of each place, in accumulate_type.
ActivationGradients activation_backward(const at::Tensor& grad, const at::Tensor& up_gate, const at::Tensor& weights);

}  // namespace norma
