#include "attention.h"

#include <ATen/ATen.h>

#include "rotary.h"

namespace norma {

Attention::Attention(const BlockParts& parts)
    : SubLayer(parts.policy.attention, parts.norms.attention),
      config_(parts.config),
      sites_(parts.policy.inner),
      layer_(static_cast<std::size_t>(parts.layer)),
      scale_(rotary_of(config_).softmax_scale),
      qkv_(parts.tensors.take(ParameterRole::qkv)),
      out_(parts.tensors.take(ParameterRole::attention_out)),
      inner_(parts.norms.inner) {}

// [B, T, heads * E] -> [B, T, heads, E], normed before the split (whole) or after it (per head).
at::Tensor Attention::heads(const at::Tensor& flat, const HeadSite& site, const Norm& norm) const {
  const bool whole = site.granularity == Granularity::whole;
  const at::Tensor split = (whole ? norm(flat) : flat).unflatten(-1, {-1, config_.head_width()});
  return whole ? split : norm(split);
}

// [B, T, (H + 2K) E] -> [B, T, H E]: everything between the two matrix products.
at::Tensor Attention::mix(at::Tensor projected, const BlockContext& context) const {
  if (config_.clip_qkv) projected = projected.clamp(-*config_.clip_qkv, *config_.clip_qkv);
  const auto parts = projected.split_with_sizes({config_.q_width(), config_.kv_width(), config_.kv_width()}, -1);
  const at::Tensor q = ops::rope(heads(parts[0], sites_.q, inner_.q), context.rope);  // [B, T, H, E]
  at::Tensor k = ops::rope(heads(parts[1], sites_.k, inner_.k), context.rope);        // [B, T, K, E]
  at::Tensor v = heads(parts[2], sites_.v, inner_.v);                                 // [B, T, K, E]
  bool causal = true;
  if (context.cache) {
    LayerCache& layer = context.cache->layers[layer_];
    causal = !layer.keys.defined();
    context.cache->append(layer.keys, k);
    context.cache->append(layer.values, v);
    if (!causal) k = layer.keys.seen(), v = layer.values.seen();  // [B, S, K, E]
  }
  at::Tensor mixed = ops::attention(q, k, v, causal, context.mask, scale_);  // [B, T, H, E]
  const bool whole = sites_.context.granularity == Granularity::whole;
  if (!whole) mixed = inner_.context(mixed);
  mixed = mixed.flatten(2);  // [B, T, H E]
  return whole ? inner_.context(mixed) : mixed;
}

at::Tensor Attention::branch(BranchInput& u, const BlockContext& context) {
  const at::Tensor projected = u.project(qkv_);  // [B, T, (H + 2K) E]
  const auto attend = [this, context](const TensorList& in) { return mix(in[0], context); };
  return ops::prepared_linear(attend, {projected}, out_, context.recompute_inputs).y;  // [B, T, D]
}

}  // namespace norma
