// The dense MLP as a branch of the residual equation.
#pragma once

#include "sub_layer.h"

namespace norma {

// The matrices of a SwiGLU MLP: down(silu(gate(u)) * up(u)), up and gate as one matrix.
struct SwigluMatrices {
  at::Tensor up_gate, down;

  at::Tensor forward(BranchInput& u, const BlockContext& context) const;  // u [B, T, D] -> [B, T, D]
};

// Registers "up_gate.weight" [2 width, D] and "down.weight" [D, width] under `parent`.
SwigluMatrices register_swiglu(torch::nn::Module& parent, std::int64_t d_model, std::int64_t width);

class Mlp : public SubLayer {
 public:
  Mlp(const ModelConfig& config, const LayerPolicy& policy);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  SwigluMatrices matrices_;
};

}  // namespace norma
