// Attention: which path an input takes, and the absorbed form for cached latents.
#include <cmath>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "fused_attention.h"
#include "kernel_path.h"

namespace norma {
namespace {

// Zeros after the last channel: they change no score, and their results are cut off again.
at::Tensor padded(const at::Tensor& x, std::int64_t width) {
  return x.size(-1) == width ? x : at::constant_pad_nd(x, {0, width - x.size(-1)});
}

// q, k and v of one width.
at::Tensor attention_of_one_width(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                                  const std::optional<at::Tensor>& mask, double scale) {
  if (takes_fused_path(fused_attention_supports(q, k, causal, mask.has_value()), "attention")) {
    return fused_attention(q, k, v, scale);
  }
  bool grouped = q.size(2) != k.size(2);
  at::Tensor keys = k, values = v;
  if (grouped && q.is_cuda() && (mask || q.scalar_type() != at::kBFloat16)) {
    // On CUDA only the flash kernel reads keys groupwise, and it takes neither masks nor float32.
    keys = k.repeat_interleave(q.size(2) / k.size(2), 2);
    values = v.repeat_interleave(q.size(2) / k.size(2), 2);
    grouped = false;
  }
  const at::Tensor out = at::scaled_dot_product_attention(  // [B, H, T, E]
      q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), mask, /*dropout_p=*/0.0, causal && !mask, scale,
      grouped);
  return out.transpose(1, 2);  // [B, T, H, E]
}

// scores [B, T, H, S] times scale [B, S, H] or [B, S, 1].
at::Tensor scaled_by(const at::Tensor& scores, const at::Tensor& scale) {
  return scale.defined() ? scores * scale.transpose(1, 2).unsqueeze(1) : scores;
}

// Every head of every token against what all of them share: x [B, T, H, n], shared [B, S, n] -> [B, T, H, S].
at::Tensor against_shared(const at::Tensor& x, const at::Tensor& shared) {
  return at::matmul(x.flatten(1, 2), shared.transpose(1, 2)).unflatten(1, {x.size(1), x.size(2)});
}

}  // namespace

at::Tensor ops::attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                          const std::optional<at::Tensor>& mask, std::optional<double> scale) {
  const std::int64_t width = std::max(q.size(-1), v.size(-1));
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(-1))));
  const at::Tensor out =
      attention_of_one_width(padded(q, width), padded(k, width), padded(v, width), causal, mask, factor);
  return v.size(-1) == width ? out : out.narrow(-1, 0, v.size(-1));  // [B, T, H, Ev]
}

at::Tensor ops::latent_attention(const at::Tensor& q, const at::Tensor& r, const LatentCacheView& cache, double scale,
                                 const std::optional<at::Tensor>& mask) {
  const at::ScalarType wide = accumulate_type(q.scalar_type());
  const at::Tensor of_latent = against_shared(q, cache.latent).to(wide);  // [B, T, H, S]
  const at::Tensor of_rope = against_shared(r, cache.rope_key).to(wide);  // [B, T, H, S]
  at::Tensor scores = (scaled_by(of_latent, cache.key_scale_latent) + scaled_by(of_rope, cache.key_scale_rope)) * scale;
  if (mask) scores = scores.masked_fill(mask->transpose(1, 2).logical_not(), -INFINITY);
  const at::Tensor p = scaled_by(at::softmax(scores, -1), cache.value_scale);  // [B, T, H, S]
  return against_shared(p.to(q.scalar_type()), cache.latent.transpose(1, 2));  // [B, T, H, R]
}

}  // namespace norma
