#include "block.h"

#include <ATen/ATen.h>

namespace norma {

at::Tensor register_matrix(torch::nn::Module& parent, const std::string& name, std::int64_t out, std::int64_t in) {
  const auto holder = parent.register_module(name, std::make_shared<torch::nn::Module>(name));
  return holder->register_parameter("weight", shaped_placeholder({out, in}));
}

at::Tensor BranchInput::project(const at::Tensor& matrix) {
  if (value_.defined()) return at::linear(value_, matrix);
  const PreparedLinear prepared = prepared_linear(prepare_, {x_}, matrix, recompute_);
  value_ = prepared.h;
  return prepared.y;
}

const at::Tensor& BranchInput::value() {
  if (!value_.defined()) value_ = prepare_({x_});
  return value_;
}

SubLayer::SubLayer(const ResidualWiring& wiring, std::int64_t d_model)
    : wiring_(wiring),
      in_(register_norm(*this, "norm_in", wiring.in, d_model)),
      out_(register_norm(*this, "norm_out", wiring.out, d_model)),
      sum_(register_norm(*this, "norm_sum", wiring.sum, d_model)) {}

at::Tensor SubLayer::forward(const at::Tensor& x, const at::Tensor& block_input, const BlockContext& context) {
  const auto prepare = [this](const TensorList& in) {
    const at::Tensor u = normed(in_, in[0]);
    return wiring_.in_gain != 1.0 ? u * wiring_.in_gain : u;
  };
  const bool is_stream = in_ == nullptr && wiring_.in_gain == 1.0;  // kept anyway
  BranchInput u(prepare, x, context.recompute_inputs && !is_stream);
  const at::Tensor y = normed(out_, branch(u, context));
  const at::Tensor& skip = wiring_.skip == SkipSource::stream   ? x
                           : wiring_.skip == SkipSource::normed ? u.value()
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

// [B, T, (H + 2K) E] -> [B, T, H E]: everything between the two matrix products.
at::Tensor Attention::mix(at::Tensor projected, const BlockContext& context) const {
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
  return whole ? normed(context_, mixed) : mixed;
}

at::Tensor Attention::branch(BranchInput& u, const BlockContext& context) {
  const at::Tensor projected = u.project(qkv_);  // [B, T, (H + 2K) E]
  const auto attend = [this, context](const TensorList& in) { return mix(in[0], context); };
  return prepared_linear(attend, {projected}, out_, context.recompute_inputs).y;  // [B, T, D]
}

Mlp::Mlp(const ModelConfig& config, const LayerPolicy& policy)
    : SubLayer(policy.mlp, config.d_model),
      up_gate_(register_matrix(*this, "up_gate", 2 * config.mlp_dim, config.d_model)),
      down_(register_matrix(*this, "down", config.d_model, config.mlp_dim)) {}

at::Tensor Mlp::branch(BranchInput& u, const BlockContext& context) {
  const auto activate = [](const TensorList& in) { return swiglu(in[0]); };  // [B, T, 2F] -> [B, T, F]
  return prepared_linear(activate, {u.project(up_gate_)}, down_, context.recompute_inputs).y;  // [B, T, D]
}

BlockImpl::BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer)
    : attention_(register_module("attention", std::make_shared<Attention>(config, policy, layer))),
      mlp_(register_module("mlp", std::make_shared<Mlp>(config, policy))) {}

at::Tensor BlockImpl::forward(const at::Tensor& x, const BlockContext& context) {
  return mlp_->forward(attention_->forward(x, x, context), x, context);
}

}  // namespace norma
