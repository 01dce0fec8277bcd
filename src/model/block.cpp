#include "block.h"

namespace norma {

BlockImpl::BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer)
    : attention_(register_module("attention", std::make_shared<Attention>(config, policy, layer))),
      mlp_(register_module("mlp", std::make_shared<Mlp>(config, policy))) {}

at::Tensor BlockImpl::forward(const at::Tensor& x, const BlockContext& context) {
  return mlp_->forward(attention_->forward(x, x, context), x, context);
}

}  // namespace norma
