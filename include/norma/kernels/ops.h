// The differentiable tensor functions that the model is made of. Those of experts are in experts.h.
//
// Letters in shapes: B batch, T time, S time of the keys, D model, H query heads, K heads of keys and values, E width
// of a head, F width of an MLP, V rows of the vocabulary, N = B * T. Statistics, rotations, softmax and losses are
// computed in accumulate_type; results have the type of the input.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/unit.h"

namespace norma {

// float64 for float64, float32 for every other type.
at::ScalarType accumulate_type(at::ScalarType type);

// ---- Paths ----

// Every op has a reference: the composition of ATen calls in src/kernels/reference*.cpp that defines its result. Some
// also have a fused path, with a backward pass of its own, which agrees with the reference to rounding.
struct KernelOp {
  std::string_view name;
  bool cpu = false, cuda = false;  // where there is a fused path
};
inline constexpr auto kKernelOps = std::to_array<KernelOp>({
    {.name = "linear"},
    {.name = "linear_input_gradient"},
    {.name = "linear_weight_gradient"},
    {.name = "linear_per_head"},
    {.name = "embed"},
    {.name = "rms_norm", .cpu = true},
    {.name = "rms_factor"},
    {.name = "layer_norm"},
    {.name = "residual_join"},
    {.name = "rope", .cpu = true},
    {.name = "attention", .cpu = true},
    {.name = "latent_attention"},
    {.name = "swiglu", .cpu = true},
    {.name = "linear_cross_entropy"},
    {.name = "route", .cpu = true},
    {.name = "order_by_expert", .cpu = true},
    {.name = "expert_mlp", .cpu = true, .cuda = true},
});

// Which path the ops of this process take.
//   reference: always the reference.
//   fused: the fused path where the op has one for the device; ConfigError when it does not support the call.
//   automatic: the fused path where it supports the call, else the reference. `note` is told once for each such op and
//     reason; it may be called on any thread.
enum class KernelPath { automatic, reference, fused };
using KernelNote = std::function<void(std::string_view)>;
void set_kernel_path(KernelPath path, KernelNote note = {});

// ---- Arguments and results ----

// Which channels RoPE turns together: pairs (i, i + E/2), or neighbours (2i, 2i+1).
enum class RotaryPairs { halves, adjacent };

// Cosines and sines of position * frequency, computed in float64 and kept in accumulate_type.
struct RopeTable {
  at::Tensor cos, sin;  // [T, 1, E/2], or [B, T, 1, E/2] where every row of the batch has positions of its own
  RotaryPairs pairs = RotaryPairs::halves;

  RopeTable slice(std::int64_t begin, std::int64_t length) const;
  RopeTable of_rows(const at::Tensor& positions) const;  // positions [B] int64, one for each row: T becomes 1
};
// frequencies [E/2], one for each pair; cosines and sines are multiplied by `factor`.
RopeTable make_rope_table(std::int64_t length, const std::vector<double>& frequencies, at::ScalarType type,
                          at::Device device, RotaryPairs pairs = RotaryPairs::halves, double factor = 1.0);
// With the frequencies theta^(-2i/E), i < E/2, E = head_dim.
RopeTable make_rope_table(std::int64_t length, std::int64_t head_dim, double theta, at::ScalarType type,
                          at::Device device);

// What ops::latent_attention() attends to. Undefined scales are 1; defined ones are [B, S, H] or [B, S, 1] in
// accumulate_type.
struct LatentCacheView {
  at::Tensor latent, rope_key;  // [B, S, R], [B, S, P]
  at::Tensor key_scale_latent, key_scale_rope, value_scale;
};

using TensorFunction = std::function<at::Tensor(const TensorList&)>;
struct PreparedLinear {
  at::Tensor y, h;
};
struct PreparedLinears {
  TensorList y;
  at::Tensor h;
};

struct CrossEntropy {
  at::Tensor loss;       // scalar: scale * sum(ce + z_weight * lse^2) over targets; differentiable
  at::Tensor token_ce;   // [N] cross-entropy in nats, 0 where ignored
  at::Tensor token_lse;  // [N] log of the softmax denominator, 0 where ignored
};
inline constexpr std::int64_t kIgnoreToken = -100;

// ---- Ops ----

namespace ops {

// y = x weight^T. Every product of the model with a matrix of weights is this one, linear_per_head(), or inside of
// expert_mlp() and linear_cross_entropy().
// x [..., in], weight [out, in] -> [..., out].
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);

// The gradients of linear() from grad [..., out]: that of x [..., in] and that of weight [out, in]. Not differentiable.
at::Tensor linear_input_gradient(const at::Tensor& grad, const at::Tensor& weight);
at::Tensor linear_weight_gradient(const at::Tensor& grad, const at::Tensor& x);

// A matrix of its own for each head. x [B, T, H, in], weight [H, out, in] -> [B, T, H, out].
at::Tensor linear_per_head(const at::Tensor& x, const at::Tensor& weight);

// The product of something cheap: y = h weight^T with h = prepare(inputs), h [..., in]. The backward pass makes h again
// from the inputs instead of keeping it (selective recompute, arXiv 2205.05198), with the same products in the same
// order, so gradients are those of linear() bit for bit. `prepare` must be pure; the parameters that it reads are
// leaves. Without gradients, or when recompute is false, nothing is made twice.
PreparedLinear prepared_linear(const TensorFunction& prepare, const TensorList& inputs, const at::Tensor& weight,
                               bool recompute);

// Several products of the same h: y[i] = h weights[i]^T.
PreparedLinears prepared_linears(const TensorFunction& prepare, const TensorList& inputs, const TensorList& weights,
                                 bool recompute);

// Rows of the table. ids [...] int64, weight [V, D] -> [..., D]. The gradient of a row is summed in accumulate_type.
at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight);

// x * rsqrt(mean(x^2) + eps), rounded to the type of x, times weight; over the last dimension.
// x [..., n], weight [n] -> [..., n]. The order of rounding is that of OLMo's RMSLayerNorm.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// The factor that rms_norm multiplies each row by. x [..., n] -> [..., 1] in accumulate_type; not differentiable.
at::Tensor rms_factor(const at::Tensor& x, double eps);

// (x - mean) * rsqrt(var + eps) * weight over the last dimension, without a bias. x [..., n], weight [n] -> [..., n].
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// alpha * skip + beta * y, equal shapes: the sum of every residual connection.
at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta);

// Rotates the table's pairs; each result lies where its input lay. x [B, T, heads, E], table of length T ->
// [B, T, heads, E]. RoFormer, arXiv 2104.09864, has adjacent pairs; LLaMA and OLMo have halves.
at::Tensor rope(const at::Tensor& x, const RopeTable& table);

// softmax(scale q k^T) v, where query head h reads head h / (H / K) of keys and values. scale: 1 / sqrt(E) unless
// given. q [B, T, H, E], k [B, S, K, E], v [B, S, K, Ev] -> [B, T, H, Ev]. causal needs T == S; a mask [B, 1, T, S]
// (true = may attend) replaces it.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     const std::optional<at::Tensor>& mask = std::nullopt, std::optional<double> scale = std::nullopt);

// Attention of new tokens over cached latents, where all heads share one key and value per token (absorbed form of
// latent attention, DeepSeek-V2, arXiv 2405.04434 section 2.1): with query parts q [B, T, H, R] for the latents
// c [B, S, R], and r [B, T, H, P] for the shared rotated keys k [B, S, P],
//   p = softmax(scale (q c^T * key_scale_latent + r k^T * key_scale_rope)),  result = (p * value_scale) c, as q.
// mask [B, 1, T, S] is needed where T > 1. Not differentiable.
at::Tensor latent_attention(const at::Tensor& q, const at::Tensor& r, const LatentCacheView& cache, double scale,
                            const std::optional<at::Tensor>& mask = std::nullopt);

// silu(gate) * up of a fused projection whose first half is up and whose second half is gate. [..., 2F] -> [..., F].
at::Tensor swiglu(const at::Tensor& up_gate);

// Head and cross-entropy in chunks of tokens: the whole logits never exist. When gradients are on, they are formed
// chunk by chunk in the forward pass. hidden [N, D], weight [V, D], targets [N] int64 (kIgnoreToken: no target). All V
// columns take part in the softmax.
CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                  double scale, double z_weight, std::int64_t chunk_tokens);

}  // namespace ops
}  // namespace norma
