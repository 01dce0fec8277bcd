// The pieces between the experts' matrix products (loops of our own on a CPU, ATen's calls elsewhere), rows in the
// experts' order (a row is a place of ExpertOrder).
#pragma once

#include <ATen/core/Tensor.h>

#include "norma/kernels/experts.h"

namespace norma {

// On a CPU, in fp32 and bf16: the order with every expert's rows rounded up to a multiple of 32 by places of no pair
// (-1), whose rows and weights are zero. oneDNN compiles a product for each new shape, on one thread; shapes that come
// back from step to step do not cost that again. Elsewhere, and for few rows, the order itself.
ExpertOrder with_round_sizes(const ExpertOrder& order, const at::Tensor& x);

// x [N, D] -> [M, D]: the token of each place. M is N k, or more in an order with round sizes.
at::Tensor spread_rows(const at::Tensor& x, const ExpertOrder& order);

// weights [N, k] -> [M]: of each place.
at::Tensor spread_weights(const at::Tensor& weights, const ExpertOrder& order);

// rows [M, D], weights [N, k] (undefined: ones) -> [N, D]: the weighted sum of each token's places.
at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& weights, const ExpertOrder& order, std::int64_t tokens);

// What the backward pass makes of the activation at once, from d loss / d (activation, not yet weighted).
struct ActivationGradients {
  at::Tensor up_gate;   // [M, 2F], weighted
  at::Tensor weighted;  // [M, F]: the weighted activation itself, for the gradient of `down`
  at::Tensor weights;   // [M] d loss / d weight of each place, in accumulate_type
};
// weights: [M], one of each place, in accumulate_type.
ActivationGradients activation_backward(const at::Tensor& grad, const at::Tensor& up_gate, const at::Tensor& weights);

}  // namespace norma
