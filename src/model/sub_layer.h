// A sub-layer: the one residual equation around a branch, which is attention or an MLP.
#pragma once

#include "norma/base/unit.h"
#include "norma/config/config.h"
#include "norma/norm/plan.h"

#include "block_context.h"
#include "norm_module.h"
#include "unit_tensors.h"

namespace norma {

// What the modules of a block are built from.
struct BlockParts {
  const ModelConfig& config;
  const LayerPolicy& policy;
  std::int64_t layer;  // index of the block
  UnitTensors& tensors;
  LayerNorms norms;
};

// The input u of a branch, which its first matrix product may have to compute again in the backward pass.
class BranchInput {
 public:
  BranchInput(TensorFunction prepare, at::Tensor x, bool recompute)
      : prepare_(std::move(prepare)), x_(std::move(x)), recompute_(recompute) {}
  at::Tensor project(const at::Tensor& matrix);    // u [B, T, D] times matrix [out, D] -> [B, T, out]
  TensorList project(const TensorList& matrices);  // by several of them
  const at::Tensor& value();                       // u itself

 private:
  TensorFunction prepare_;
  at::Tensor x_, value_;
  bool recompute_;
};

// u = g * N_in(x)   y = N_out(F(u))   x' = N_sum(alpha * skip + beta * y)
class SubLayer {
 public:
  SubLayer(const ResidualWiring& wiring, const WiringSites<Norm>& norms) : wiring_(wiring), norms_(norms) {}
  virtual ~SubLayer() = default;
  SubLayer(const SubLayer&) = delete;
  SubLayer& operator=(const SubLayer&) = delete;

  // x and block_input [B, T, D] -> [B, T, D]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& block_input, const BlockContext& context);

 protected:
  virtual at::Tensor branch(BranchInput& u, const BlockContext& context) = 0;  // F: [B, T, D] -> [B, T, D]

 private:
  ResidualWiring wiring_;
  WiringSites<Norm> norms_;
};

}  // namespace norma
