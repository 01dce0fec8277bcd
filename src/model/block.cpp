#include "block.h"

#include <ATen/ATen.h>

#include "attention.h"
#include "latent_attention.h"
#include "mlp.h"
#include "moe.h"

namespace norma {
namespace {

std::shared_ptr<SubLayer> make_attention(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer) {
  if (config.is_latent()) return std::make_shared<LatentAttention>(config, policy, layer);
  return std::make_shared<Attention>(config, policy, layer);
}

std::shared_ptr<SubLayer> make_mlp(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer) {
  if (config.mlp_kind(layer) == MlpKind::moe) return std::make_shared<Moe>(config, policy);
  return std::make_shared<Mlp>(config, policy);
}

}  // namespace

BlockImpl::BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer)
    : attention_(register_module("attention", make_attention(config, policy, layer))),
      mlp_(register_module("mlp", make_mlp(config, policy, layer))) {}

at::Tensor BlockImpl::forward(const at::Tensor& x, const BlockContext& context) {
  const at::Tensor mixed = attention_->forward(x, x, context);
  if (!context.places) return mlp_->forward(mixed, x, context);
  // What follows attention looks at one token at a time.
  const auto wanted = [&](const at::Tensor& all) {
    return all.flatten(0, 1).index_select(0, *context.places).unsqueeze(0);  // [B, T, D] -> [1, N, D]
  };
  return mlp_->forward(wanted(mixed), wanted(x), context);
}

}  // namespace norma
