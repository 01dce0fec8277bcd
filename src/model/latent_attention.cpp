#include "latent_attention.h"

#include <ATen/ATen.h>

#include "rotary.h"

namespace norma {

LatentAttention::LatentAttention(const BlockParts& parts)
    : SubLayer(parts.policy.attention, parts.norms.attention),
      config_(parts.config),
      sites_(parts.policy.inner),
      layer_(static_cast<std::size_t>(parts.layer)),
      scale_(rotary_of(config_).softmax_scale),
      q_up_(parts.tensors.take_if_any(ParameterRole::q_up)),
      q_(parts.tensors.take(q_up_ ? ParameterRole::q_down : ParameterRole::q)),
      kv_down_(parts.tensors.take(ParameterRole::kv_down)),
      kv_up_(parts.tensors.take(ParameterRole::kv_up)),
      out_(parts.tensors.take(ParameterRole::attention_out)),
      inner_(parts.norms.inner) {}

namespace {

// x [B, T, heads * n] -> [B, T, heads, n], normed before the split (whole) or after it (per head).
at::Tensor normed_heads(const at::Tensor& x, std::int64_t width, const HeadSite& site, const Norm& norm) {
  const bool whole = site.granularity == Granularity::whole;
  const at::Tensor split = (whole ? norm(x) : x).unflatten(-1, {-1, width});
  return whole ? split : norm(split);
}

// Rotates the last channels of each head and leaves the others alone. [B, T, heads, n] -> the same.
at::Tensor rope_tail(const at::Tensor& x, std::int64_t tail, const RopeTable& table) {
  const std::int64_t head = x.size(-1) - tail;
  return at::cat({x.narrow(-1, 0, head), ops::rope(x.narrow(-1, head, tail), table)}, -1);
}

at::Tensor seen_or_none(const TokenStore& store) {
  return store.defined() ? store.seen() : at::Tensor();
}

}  // namespace

// [B, T, H (N + P)] -> [B, T, H, N + P], normed and rotated.
at::Tensor LatentAttention::queries(const at::Tensor& projected, const BlockContext& context) const {
  const at::Tensor q = normed_heads(projected, config_.head_width(), sites_.q, inner_.q);
  return rope_tail(q, config_.rope_dim(), context.rope);
}

// of_latent [B, T, H, N], shared [B, T, P] before RoPE -> [B, T, H, N + P].
at::Tensor LatentAttention::keys(const at::Tensor& of_latent, const at::Tensor& shared,
                                 const BlockContext& context) const {
  const std::int64_t rope_dim = config_.rope_dim();
  const at::Tensor one = shared.unsqueeze(2);  // [B, T, 1, P]
  const auto to_heads = [&](const at::Tensor& x) { return x.expand({-1, -1, config_.num_heads, -1}); };
  if (norms_whole_keys(sites_)) {
    return rope_tail(inner_.k(at::cat({of_latent, to_heads(one)}, -1)), rope_dim, context.rope);
  }
  return at::cat({inner_.k(of_latent), to_heads(ops::rope(inner_.rope_key(one), context.rope))}, -1);
}

// [B, T, H, W], normed.
at::Tensor LatentAttention::values(const at::Tensor& of_latent) const {
  if (!inner_.v.present() || sites_.v.granularity == Granularity::per_head) return inner_.v(of_latent);
  return inner_.v(of_latent.flatten(2)).unflatten(-1, {-1, config_.value_width()});
}

// [B, T, H, W] -> [B, T, H W].
at::Tensor LatentAttention::normed_context(const at::Tensor& mixed) const {
  if (sites_.context.granularity == Granularity::whole) return inner_.context(mixed.flatten(2));
  return inner_.context(mixed).flatten(2);
}

// The expanded form. in: q [B, T, H (N + P)], shared [B, T, P], of kv_up [B, T, H (N + W)] -> [B, T, H W].
at::Tensor LatentAttention::attend(const TensorList& in, const BlockContext& context) const {
  const at::Tensor heads = in[2].unflatten(-1, {config_.num_heads, -1});  // [B, T, H, N + W]
  const at::Tensor of_key = heads.narrow(-1, 0, config_.nope_dim());
  const at::Tensor of_value = heads.narrow(-1, config_.nope_dim(), config_.value_width());
  const at::Tensor mixed = ops::attention(queries(in[0], context), keys(of_key, in[1], context), values(of_value),
                                          /*causal=*/true, context.mask, scale_);  // [B, T, H, W]
  return normed_context(mixed);
}

// Gain of norm_v by head and channel, [H, W] or [W].
at::Tensor LatentAttention::value_gain() const {
  const at::Tensor& gain = inner_.v.gain;
  return sites_.v.granularity == Granularity::whole ? gain.view({config_.num_heads, -1}) : gain;
}

// Adds new tokens to the cache: latent [B, T, R] after its norm, shared [B, T, P] before its norm, up [B, T, H (N +
// W)], which is read only where there are norms on keys or values.
void LatentAttention::remember(const at::Tensor& latent, const at::Tensor& shared, const at::Tensor& up,
                               const BlockContext& context) const {
  const DecodeCache& all = *context.cache;
  LayerCache& cache = context.cache->layers[layer_];
  at::Tensor one = inner_.rope_key(shared);  // [B, T, P]
  if (norms_whole_keys(sites_)) one = one * inner_.k.gain.narrow(0, config_.nope_dim(), config_.rope_dim());
  all.append(cache.latent, latent);
  all.append(cache.rope_key, ops::rope(one.unsqueeze(2), context.rope).squeeze(2));
  if (!inner_.k.present() && !inner_.v.present()) return;
  const at::Tensor heads = up.unflatten(-1, {config_.num_heads, -1});  // [B, T, H, N + W]
  if (inner_.k.present()) {
    at::Tensor key = heads.narrow(-1, 0, config_.nope_dim());
    if (norms_whole_keys(sites_)) key = at::cat({key, shared.unsqueeze(2).expand({-1, -1, config_.num_heads, -1})}, -1);
    all.append(cache.key_scale, ops::rms_factor(key, sites_.k.eps).squeeze(-1));  // [B, S, H]
  }
  if (inner_.v.present()) {
    const bool whole = sites_.v.granularity == Granularity::whole;
    const at::Tensor value = heads.narrow(-1, config_.nope_dim(), config_.value_width());
    const at::Tensor factor =
        ops::rms_factor(whole ? value.flatten(2) : value, sites_.v.eps);  // [B, T, 1] or [B, T, H, 1]
    all.append(cache.value_scale, whole ? factor : factor.squeeze(-1));
  }
}

// New tokens attend to the cache, without keys or values being made. q [B, T, H (N + P)] -> [B, T, H W].
at::Tensor LatentAttention::attend_absorbed(const at::Tensor& projected, const BlockContext& context) const {
  const LayerCache& cache = context.cache->layers[layer_];
  const at::Tensor q = queries(projected, context);  // [B, T, H, N + P]
  const at::Tensor up = kv_up_.view({config_.num_heads, -1, config_.kv_rank()});
  const at::Tensor key_rows = up.narrow(1, 0, config_.nope_dim());                        // [H, N, R]
  const at::Tensor value_rows = up.narrow(1, config_.nope_dim(), config_.value_width());  // [H, W, R]
  at::Tensor plain = q.narrow(-1, 0, config_.nope_dim());                                 // [B, T, H, N]
  const at::Tensor turned = q.narrow(-1, config_.nope_dim(), config_.rope_dim());         // [B, T, H, P]
  if (inner_.k.present()) plain = plain * inner_.k.gain.narrow(0, 0, config_.nope_dim());
  const at::Tensor absorbed = ops::linear_per_head(plain, key_rows.transpose(1, 2));
  const at::Tensor key_scale = seen_or_none(cache.key_scale);
  const LatentCacheView view{cache.latent.seen(), cache.rope_key.seen(), key_scale,
                             inner_.rope_key.present() ? at::Tensor() : key_scale, seen_or_none(cache.value_scale)};
  const at::Tensor sums = ops::latent_attention(absorbed, turned, view, scale_, context.mask);  // [B, T, H, R]
  at::Tensor mixed = ops::linear_per_head(sums, value_rows);                                    // [B, T, H, W]
  if (inner_.v.present()) mixed = mixed * value_gain();
  return normed_context(mixed);
}

at::Tensor LatentAttention::branch(BranchInput& u, const BlockContext& context) {
  const bool recompute = context.recompute_inputs;
  const TensorList down = u.project({q_, kv_down_});  // [B, T, Q or H (N + P)], [B, T, R + P]
  const at::Tensor latent = down[1].narrow(-1, 0, config_.kv_rank());
  const at::Tensor shared = down[1].narrow(-1, config_.kv_rank(), config_.rope_dim());
  at::Tensor q = down[0];
  if (q_up_) {
    const auto prepare = [this](const TensorList& in) { return inner_.q_latent(in[0]); };
    q = ops::prepared_linear(prepare, {q}, *q_up_, recompute).y;  // [B, T, H (N + P)]
  }
  const auto prepare = [this](const TensorList& in) { return inner_.kv_latent(in[0]); };
  if (context.cache && context.cache->length > 0) {
    const at::Tensor c = prepare({latent});  // [B, T, R]
    remember(c, shared, inner_.k.present() || inner_.v.present() ? ops::linear(c, kv_up_) : at::Tensor(), context);
    return ops::linear(attend_absorbed(q, context), out_);  // [B, T, D]
  }
  const PreparedLinear up = ops::prepared_linear(prepare, {latent}, kv_up_, recompute);  // [B, T, H (N + W)]
  if (context.cache) remember(up.h, shared, up.y, context);
  const auto mix = [this, context](const TensorList& in) { return attend(in, context); };
  return ops::prepared_linear(mix, {q, shared, up.y}, out_, recompute).y;  // [B, T, D]
}

}  // namespace norma
