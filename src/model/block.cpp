#include "block.h"

#include <ATen/ATen.h>

namespace norma {

at::Tensor register_matrix(torch::nn::Module& parent, const std::string& name, std::int64_t out, std::int64_t in) {
  const auto holder = parent.register_module(name, std::make_shared<torch::nn::Module>(name));
  return holder->register_parameter("weight", shaped_placeholder({out, in}));
}

SubLayer::SubLayer(const ResidualWiring& wiring, std::int64_t d_model)
    : wiring_(wiring),
      in_(register_norm(*this, "norm_in", wiring.in, d_model)),
      out_(register_norm(*this, "norm_out", wiring.out, d_model)),
      sum_(register_norm(*this, "norm_sum", wiring.sum, d_model)) {}

at::Tensor SubLayer::forward(const at::Tensor& x, const at::Tensor& block_input, const BlockContext& context) {
  at::Tensor u = normed(in_, x);
  if (wiring_.in_gain != 1.0) u = u * wiring_.in_gain;
  const at::Tensor y = normed(out_, branch(u, context));
  const at::Tensor& skip = wiring_.skip == SkipSource::stream   ? x
                           : wiring_.skip == SkipSource::normed ? u
                                                                : block_input;
  return normed(sum_, residual_join(skip, y, wiring_.alpha, wiring_.beta));
}

Attention::Attention(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer)
    : SubLayer(policy.attention, config.d_model),
      config_(config),
      sites_(policy.inner),
      layer_(static_cast<std::size_t>(layer)),
      qkv_(register_matrix(*this, "qkv", config.qkv_width(), config.d_model)),
      out_(register_matrix(*this, "out", config.d_model, config.q_width())),
      q_(register_norm(*this, "norm_q", sites_.q, inner_width(sites_.q, config.num_heads, config))),
      k_(register_norm(*this, "norm_k", sites_.k, inner_width(sites_.k, config.kv_heads(), config))),
      v_(register_norm(*this, "norm_v", sites_.v, inner_width(sites_.v, config.kv_heads(), config))),
      context_(register_norm(*this, "norm_context", sites_.context,
                             inner_width(sites_.context, config.num_heads, config))) {}

// [B, T, heads * E] -> [B, T, heads, E], normed before the split (whole) or after it (per head).
at::Tensor Attention::heads(const at::Tensor& flat, const InnerSite& site, const Norm& norm) const {
  const bool whole = site.granularity == Granularity::whole;
  const at::Tensor split = (whole ? normed(norm, flat) : flat).unflatten(-1, {-1, config_.head_width()});
  return whole ? split : normed(norm, split);
}

at::Tensor Attention::branch(const at::Tensor& u, const BlockContext& context) {
  at::Tensor projected = at::linear(u, qkv_);  // [B, T, (H + 2K) E]
  if (config_.clip_qkv) projected = projected.clamp(-*config_.clip_qkv, *config_.clip_qkv);
  const auto parts = projected.split_with_sizes({config_.q_width(), config_.kv_width(), config_.kv_width()}, -1);
  const at::Tensor q = rope(heads(parts[0], sites_.q, q_), context.rope);  // [B, T, H, E]
  at::Tensor k = rope(heads(parts[1], sites_.k, k_), context.rope);        // [B, T, K, E]
  at::Tensor v = heads(parts[2], sites_.v, v_);                            // [B, T, K, E]
  bool causal = true;
  if (context.cache) {
    at::Tensor &keys = context.cache->keys[layer_], &values = context.cache->values[layer_];
    causal = !keys.defined();
    k = keys = keys.defined() ? at::cat({keys, k}, 1) : k;  // [B, S, K, E]
    v = values = values.defined() ? at::cat({values, v}, 1) : v;
  }
  at::Tensor mixed = attention(q, k, v, causal, context.mask);  // [B, T, H, E]
  const bool whole = sites_.context.granularity == Granularity::whole;
  if (!whole) mixed = normed(context_, mixed);
  mixed = mixed.flatten(2);  // [B, T, H E]
  if (whole) mixed = normed(context_, mixed);
  return at::linear(mixed, out_);  // [B, T, D]
}

Mlp::Mlp(const ModelConfig& config, const LayerPolicy& policy)
    : SubLayer(policy.mlp, config.d_model),
      up_gate_(register_matrix(*this, "up_gate", 2 * config.mlp_dim, config.d_model)),
      down_(register_matrix(*this, "down", config.d_model, config.mlp_dim)) {}

at::Tensor Mlp::branch(const at::Tensor& u, const BlockContext&) {
  return at::linear(swiglu(at::linear(u, up_gate_)), down_);  // [B, T, 2F] -> [B, T, F] -> [B, T, D]
}

BlockImpl::BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer)
    : attention_(register_module("attention", std::make_shared<Attention>(config, policy, layer))),
      mlp_(register_module("mlp", std::make_shared<Mlp>(config, policy))) {}

at::Tensor BlockImpl::forward(const at::Tensor& x, const BlockContext& context) {
  return mlp_->forward(attention_->forward(x, x, context), x, context);
}

}  // namespace norma
