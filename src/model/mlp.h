// The dense MLP as a branch of the residual equation.
#pragma once

#include "sub_layer.h"

namespace norma {

// SwiGLU: down(silu(gate(u)) * up(u)), up and gate as one matrix.
class Mlp : public SubLayer {
 public:
  Mlp(const ModelConfig& config, const LayerPolicy& policy);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  at::Tensor up_gate_, down_;
};

}  // namespace norma
