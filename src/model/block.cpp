#include "block.h"

#include <ATen/ATen.h>

#include "attention.h"
#include "latent_attention.h"
#include "mlp.h"
#include "moe.h"

namespace norma {
namespace {

std::unique_ptr<SubLayer> make_attention(const BlockParts& parts) {
  if (parts.config.is_latent()) return std::make_unique<LatentAttention>(parts);
  return std::make_unique<Attention>(parts);
}

std::unique_ptr<SubLayer> make_mlp(const BlockParts& parts) {
  if (parts.config.mlp_kind(parts.layer) == MlpKind::moe) return std::make_unique<Moe>(parts);
  return std::make_unique<Mlp>(parts);
}

}  // namespace

Block::Block(const BlockParts& parts) : attention_(make_attention(parts)), mlp_(make_mlp(parts)) {}

BlockOutput Block::forward(const at::Tensor& x, BlockContext context) {
  BlockOutput out;
  context.routing = &out.routing;
  const at::Tensor mixed = attention_->forward(x, x, context);
  if (!context.wanted) {
    out.x = mlp_->forward(mixed, x, context);
    return out;
  }
  // What follows attention looks at one token at a time.
  const auto wanted = [&](const at::Tensor& all) {
    return all.flatten(0, 1).index_select(0, *context.wanted).unsqueeze(0);  // [B, T, D] -> [1, N, D]
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
