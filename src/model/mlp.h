// The dense MLP as a branch of the residual equation.
#pragma once

#include "sub_layer.h"

namespace norma {

// The matrices of a SwiGLU MLP: down(silu(gate(u)) * up(u)), up and gate as one matrix.
struct SwigluMatrices {
  at::Tensor up_gate, down;  // [2F, D], [D, F]

  at::Tensor forward(BranchInput& u, const BlockContext& context) const;  // u [B, T, D] -> [B, T, D]
};

// Those of a unit: of its dense MLP, or of its shared experts.
SwigluMatrices take_swiglu(UnitTensors& tensors);

class Mlp : public SubLayer {
 public:
  explicit Mlp(const BlockParts& parts);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  SwigluMatrices matrices_;
};

}  // namespace norma
