// A norm site as a module, and parameters that have a shape but no memory yet.
#pragma once

#include <memory>

#include <torch/nn/module.h>

#include "norma/norm/plan.h"

namespace norma {

// A leaf of the given shape whose single element is repeated: it costs nothing until an engine gives it
// storage.
at::Tensor shaped_placeholder(at::IntArrayRef shape);

class NormImpl : public torch::nn::Module {
 public:
  NormImpl(const NormSite& site, std::int64_t width);
  at::Tensor forward(const at::Tensor& x) const;  // [..., width] -> [..., width]
  const at::Tensor& weight() const { return weight_; }

 private:
  NormKind kind_;
  double eps_;
  at::Tensor weight_;
};

using Norm = std::shared_ptr<NormImpl>;  // null: no norm at this site

// Registers the norms of a sub-layer, or of attention, under `parent` by their names: "norm_in", "norm_q", ...
WiringSites<Norm> register_norms(torch::nn::Module& parent, const ResidualWiring& wiring, std::int64_t d_model);
InnerSites<Norm> register_norms(torch::nn::Module& parent, const InnerNorms& inner, const ModelConfig& model);

// The norm of a single site; null when the site has none.
Norm register_norm(torch::nn::Module& parent, const std::string& name, const NormSite& site, std::int64_t width);

inline at::Tensor normed(const Norm& norm, const at::Tensor& x) {
  return norm ? norm->forward(x) : x;
}

}  // namespace norma
