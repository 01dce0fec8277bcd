// Mixture of experts as a branch of the residual equation. OLMoE, arXiv 2409.02060; shared experts, groups, sigmoid
// scores and the selection bias as in DeepSeek-V3, arXiv 2412.19437.
#pragma once

#include "norma/kernels/experts.h"

#include "mlp.h"

namespace norma {

// y = sum of top_k experts' SwiGLU, weighted by the router, + the shared MLP where there is one.
class Moe : public SubLayer {
 public:
  explicit Moe(const BlockParts& parts);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  Routing choose(BranchInput& u) const;
  at::Tensor router_logits(BranchInput& u) const;  // [B, T, E]

  RouterRule rule_;
  bool router_in_fp32_;
  std::optional<at::Tensor> selection_bias_;  // [E], where there is one
  at::Tensor router_;                         // [E, D]
  at::Tensor up_gate_, down_;                 // [E, 2F, D], [E, D, F]
  std::optional<SwigluMatrices> shared_;
};

}  // namespace norma
