// A block: attention and MLP (dense, or experts), one after the other.
#pragma once

#include <memory>

#include "sub_layer.h"

namespace norma {

// The outputs of a block. As the outputs of a unit they are a list, which runners treat alike whatever it holds.
struct BlockOutput {
  at::Tensor x;                         // [B, T, D], or [1, N, D] of the context's places
  std::optional<RoutingTerms> routing;  // of a block with experts

  TensorList pack() const;
  static BlockOutput unpack(const TensorList& list);
};

class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer);
  BlockOutput forward(const at::Tensor& x, BlockContext context);  // x [B, T, D]

 private:
  std::shared_ptr<SubLayer> attention_, mlp_;
};

}  // namespace norma
