// A block: attention, then an MLP (dense, or experts).
#pragma once

#include <memory>

#include "sub_layer.h"

namespace norma {

// The outputs of a block. As the outputs of a unit they are a list, which runners treat alike whatever it holds.
struct BlockOutput {
  at::Tensor x;                         // [B, T, D], or [1, N, D] where the context wants N tokens only
  std::optional<RoutingTerms> routing;  // of a block with experts

  TensorList pack() const;
  static BlockOutput unpack(const TensorList& list);
};

class Block {
 public:
  explicit Block(const BlockParts& parts);
  BlockOutput forward(const at::Tensor& x, BlockContext context);  // x [B, T, D]

 private:
  std::unique_ptr<SubLayer> attention_, mlp_;
};

}  // namespace norma
