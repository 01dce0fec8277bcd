// A block: attention and MLP, one after the other.
#pragma once

#include <memory>

#include "attention.h"
#include "mlp.h"

namespace norma {

class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer);
  at::Tensor forward(const at::Tensor& x, const BlockContext& context);  // [B, T, D] -> [B, T, D]

 private:
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Mlp> mlp_;
};

}  // namespace norma
