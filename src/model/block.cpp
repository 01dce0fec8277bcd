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

BlockOutput BlockImpl::forward(const at::Tensor& x, BlockContext context) {
  BlockOutput out;
  context.routing = &out.routing;
  const at::Tensor mixed = attention_->forward(x, x, context);
  if (!context.places) {
    out.x = mlp_->forward(mixed, x, context);
    return out;
  }
  // What follows attention looks at one token at a time.
  const auto wanted = [&](const at::Tensor& all) {
    return all.flatten(0, 1).index_select(0, *context.places).unsqueeze(0);  // [B, T, D] -> [1, N, D]
  };
  out.x = mlp_->forward(wanted(mixed), wanted(x), context);
  return out;
}

TensorList BlockOutput::pack() const {
  if (!routing) return {x};
  return {x, routing->balance, routing->z, routing->counts, routing->entropy};
}

BlockOutput BlockOutput::unpack(const TensorList& list) {
  if (list.size() == 1) return {.x = list[0], .routing = std::nullopt};
  return {.x = list[0],
          .routing = RoutingTerms{.balance = list[1], .z = list[2], .counts = list[3], .entropy = list[4]}};
}

}  // namespace norma
