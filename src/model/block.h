// A block: attention and MLP (dense, or experts), one after the other.
#pragma once

#include <memory>

#include "sub_layer.h"

namespace norma {

class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer);
  // [B, T, D] -> [B, T, D], or [1, N, D] of the context's places.
  at::Tensor forward(const at::Tensor& x, const BlockContext& context);

 private:
  std::shared_ptr<SubLayer> attention_, mlp_;
};

}  // namespace norma
