// Attention as a branch of the residual equation.
#pragma once

#include "sub_layer.h"

namespace norma {

// Grouped-query attention with optional norms on q, k, v and context.
class Attention : public SubLayer {
 public:
  explicit Attention(const BlockParts& parts);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  at::Tensor heads(const at::Tensor& flat, const HeadSite& site, const Norm& norm) const;
  at::Tensor mix(at::Tensor projected, const BlockContext& context) const;

  ModelConfig config_;
  InnerNorms sites_;
  std::size_t layer_;
  double scale_;
  at::Tensor qkv_, out_;
  InnerSites<Norm> inner_;
};

}  // namespace norma
