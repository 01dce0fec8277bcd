// The norms of the model.
#pragma once

#include <ATen/core/Tensor.h>

#include "norma/norm/plan.h"

namespace norma {

// The identity where the plan has no norm.
struct Norm {
  NormSite site;
  at::Tensor gain;  // [width]

  bool present() const { return site.present(); }
  at::Tensor operator()(const at::Tensor& x) const;  // [..., width] -> [..., width]
};

// Those of a block.
struct LayerNorms {
  WiringSites<Norm> attention;
  InnerSites<Norm> inner;
  WiringSites<Norm> mlp;
};

}  // namespace norma
