// The reference of every op: the composition of ATen calls that defines its result. Nothing here calls a fused path.
// Arguments, shapes and results are those of ops.h and experts.h.
#pragma once

#include "norma/kernels/experts.h"
#include "norma/kernels/ops.h"

namespace norma::reference {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);
at::Tensor linear_input_gradient(const at::Tensor& grad, const at::Tensor& weight);
at::Tensor linear_weight_gradient(const at::Tensor& grad, const at::Tensor& x);
at::Tensor linear_per_head(const at::Tensor& x, const at::Tensor& weight);
at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor rms_factor(const at::Tensor& x, double eps);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta);
at::Tensor rope(const at::Tensor& x, const RopeTable& table);
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     const std::optional<at::Tensor>& mask, double scale);
at::Tensor latent_attention(const at::Tensor& q, const at::Tensor& r, const LatentCacheView& cache, double scale,
                            const std::optional<at::Tensor>& mask);
at::Tensor swiglu(const at::Tensor& up_gate);
CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                  double scale, double z_weight, std::int64_t chunk_tokens);
Routing route(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule);
ExpertOrder order_by_expert(const at::Tensor& experts, const at::Tensor& counts);
at::Tensor expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down, const at::Tensor& weights,
                      const ExpertOrder& order, bool keep_less, Products products);  // the last two do not matter here

// ---- Parts that fused paths build on ----

at::Tensor accumulate(const at::Tensor& x);  // x in its accumulate_type

// Zeros after the last channel until there are `width` of them.
at::Tensor padded(const at::Tensor& x, std::int64_t width);

// The gradients of rms_norm from what its forward pass knows. scale [..., 1] is rms_factor(x).
struct RmsNormGradients {
  at::Tensor x, weight;
};
RmsNormGradients rms_norm_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                   const at::Tensor& scale);

// The rotation of rope() for sign 1 and its inverse, which is its gradient, for sign -1.
at::Tensor rotate(const at::Tensor& x, const RopeTable& table, double sign);

// silu(gate) * up, without a graph; and the gradient of [..., 2F] from one of [..., F].
at::Tensor swiglu_forward(const at::Tensor& up_gate);
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& up_gate);

// Indices [N, k] of the k largest of each row of values [N, M], the largest first; of equal ones the lower index.
using TopK = at::Tensor (*)(const at::Tensor& values, std::int64_t k);
at::Tensor top_k(const at::Tensor& values, std::int64_t k);
// route() with another way to the same choice.
Routing route_with(TopK top_k, const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule);

}  // namespace norma::reference
