// Differentiable tensor functions of the model. The composition of ATen calls in reference.cpp *defines* each
// result; a fused path may replace it only where it agrees.
//
// Shapes: B batch, T time, S keys' time, D model, H query heads, K kv heads, E head dim, F mlp, V vocabulary
// rows, N = B * T. Statistics, rotations, softmax and losses are computed in accumulate_type: float64 for
// float64 input, else float32; results have the input's type.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/unit.h"

namespace norma {

at::ScalarType accumulate_type(at::ScalarType type);

// Which path an op takes where a fused one exists: the fused one when it supports the arguments, always the reference,
// or always the fused one (a CheckFailure when it does not support them). Of the whole process.
enum class KernelPath { automatic, reference, fused };
void set_kernel_path(KernelPath path);

// Rows of the table. ids [...] int64, weight [V, D] -> [..., D]. The gradient of a row is summed in
// accumulate_type.
at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight);

// x * rsqrt(mean(x^2) + eps), rounded to x's type, times weight; over the last dimension.
// x [..., n], weight [n] -> [..., n]. Rounding order: OLMo's RMSLayerNorm.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// The factor that rms_norm multiplies each row by. x [..., n] -> [..., 1] in accumulate_type; not differentiable.
at::Tensor rms_factor(const at::Tensor& x, double eps);

// (x - mean) * rsqrt(var + eps) * weight over the last dimension, no bias. x [..., n], weight [n] -> [...,
// n].
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// alpha * skip + beta * y, equal shapes. The sum of every residual connection.
at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta);

// What RoPE turns together: pairs (i, i + E/2), or neighbours (2i, 2i+1).
enum class RotaryPairs { halves, adjacent };

// Cosines and sines of position * frequency, computed in float64 and kept in accumulate_type.
struct RopeTable {
  at::Tensor cos, sin;  // [T, 1, E/2], or [B, T, 1, E/2] where rows have positions of their own
  RotaryPairs pairs = RotaryPairs::halves;

  RopeTable slice(std::int64_t begin, std::int64_t length) const;
  RopeTable of_rows(const at::Tensor& positions) const;  // [B] int64, one of each row: T is 1
};
// frequencies [E/2], by pair; cosines and sines are multiplied by `factor`.
RopeTable make_rope_table(std::int64_t length, const std::vector<double>& frequencies, at::ScalarType type,
                          at::Device device, RotaryPairs pairs = RotaryPairs::halves, double factor = 1.0);
// With theta^(-2i/E), i < E/2, E = head_dim.
RopeTable make_rope_table(std::int64_t length, std::int64_t head_dim, double theta, at::ScalarType type,
                          at::Device device);

// Rotates the table's pairs, each result in the place of its input. x [B, T, heads, E], table of length T ->
// [B, T, heads, E]. RoFormer, arXiv 2104.09864: adjacent pairs; halves in the form of LLaMA and OLMo.
at::Tensor rope(const at::Tensor& x, const RopeTable& table);

// softmax(scale q k^T) v; query head h reads kv head h / (H / K). scale: 1 / sqrt(E) unless given.
// q [B, T, H, E], k [B, S, K, E], v [B, S, K, Ev] -> [B, T, H, Ev]. causal needs T == S; mask [B, 1, T, S] (true = may
// attend) replaces it.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     const std::optional<at::Tensor>& mask = std::nullopt, std::optional<double> scale = std::nullopt);

// The same for new tokens over cached latents, where all heads share one key and value per token (absorbed form of
// latent attention, DeepSeek-V2, arXiv 2405.04434 section 2.1): with query parts q [B, T, H, R] for the latents
// c [B, S, R], and r [B, T, H, P] for the shared rotated keys k [B, S, P],
//   p = softmax(scale (q c^T * key_scale_latent + r k^T * key_scale_rope)),  result = (p * value_scale) c, as q.
// Undefined scales are 1; else [B, S, H] or [B, S, 1], in accumulate_type. mask [B, 1, T, S] is needed where T > 1. Not
// differentiable.
struct LatentCacheView {
  at::Tensor latent, rope_key;  // c, k
  at::Tensor key_scale_latent, key_scale_rope, value_scale;
};
at::Tensor latent_attention(const at::Tensor& q, const at::Tensor& r, const LatentCacheView& cache, double scale,
                            const std::optional<at::Tensor>& mask = std::nullopt);

// silu(gate) * up of a fused projection whose first half is up, second half gate. [..., 2F] -> [..., F].
at::Tensor swiglu(const at::Tensor& up_gate);

// A matrix product of something cheap: y = h weight^T with h = prepare(inputs), weight [out, in], h [..., in]. The
// backward pass makes h again from the inputs instead of keeping it (selective recompute, arXiv 2205.05198), with the
// same products in the same order, so gradients are those of at::linear bit for bit. `prepare` must be pure; the
// parameters it reads are leaves. Without gradients, or when recompute is false, nothing is made twice.
using TensorFunction = std::function<at::Tensor(const TensorList&)>;
struct PreparedLinear {
  at::Tensor y, h;
};
PreparedLinear prepared_linear(const TensorFunction& prepare, const TensorList& inputs, const at::Tensor& weight,
                               bool recompute);

// Several products of the same h: y[i] = h weights[i]^T.
struct PreparedLinears {
  TensorList y;
  at::Tensor h;
};
PreparedLinears prepared_linears(const TensorFunction& prepare, const TensorList& inputs, const TensorList& weights,
                                 bool recompute);

// Head and cross-entropy in chunks of tokens: the whole logits never exist; when gradients are on, they are
// formed chunk by chunk in the forward pass.
struct CrossEntropy {
  at::Tensor loss;       // scalar: scale * sum(ce + z_weight * lse^2) over targets; differentiable
  at::Tensor token_ce;   // [N] cross-entropy in nats, 0 where ignored
  at::Tensor token_lse;  // [N] log of the softmax denominator, 0 where ignored
};
inline constexpr std::int64_t kIgnoreToken = -100;

// hidden [N, D], weight [V, D], targets [N] of int64 (kIgnoreToken: no target). All V columns take part in
// the softmax.
CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                  double scale, double z_weight, std::int64_t chunk_tokens);

}  // namespace norma
