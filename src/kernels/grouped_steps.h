// What lies between the products of grouped experts, on rows in the experts' order (see ExpertOrder): loops of our own
// for the types that they read on a CPU, ATen calls elsewhere.
#pragma once

#include <ATen/core/Tensor.h>

#include "norma/kernels/experts.h"

namespace norma {

// On a CPU, in fp32 and bf16: the order with the rows of every expert rounded up to a multiple of 32. The rows that are
// added belong to no pair (-1), and they and their weights are zero. oneDNN compiles a product for each new shape, on
// one thread; shapes that come back from step to step do not cost that again. Elsewhere, and for few rows, the order
// itself.
ExpertOrder with_round_sizes(const ExpertOrder& order, const at::Tensor& x);

// x [N, D] -> [M, D]: the token of each row. M is N k, or more in an order with round sizes.
at::Tensor spread_rows(const at::Tensor& x, const ExpertOrder& order);

// weights [N, k] -> [M]: the weight of each row.
at::Tensor spread_weights(const at::Tensor& weights, const ExpertOrder& order);

// up_gate [M, 2F] -> silu(gate) * up [M, F].
at::Tensor activation(const at::Tensor& up_gate);

// rows [M, D], weights [N, k] (undefined: ones) -> [N, D]: the weighted sum of each token's rows.
at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& weights, const ExpertOrder& order, std::int64_t tokens);

// What the backward pass computes in one go from d loss / d (activation before its weight).
struct ActivationGradients {
  at::Tensor up_gate;   // [M, 2F], weighted
  at::Tensor weighted;  // [M, F]: the weighted activation itself, for the gradient of `down`
  at::Tensor weights;   // [M] d loss / d weight of each row, in accumulate_type
};
// grad [M, F], up_gate [M, 2F], weights [M] in accumulate_type.
ActivationGradients activation_backward(const at::Tensor& grad, const at::Tensor& up_gate, const at::Tensor& weights);

}  // namespace norma
