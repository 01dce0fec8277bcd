// The fused path of ops::expert_mlp(), on a CPU and on CUDA.
#pragma once

#include "norma/kernels/experts.h"

#include "support.h"

namespace norma {

// One autograd function whose products write into results that exist beforehand, and which keeps little.
struct GroupedExperts {
  static Support supports(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down,
                          const at::Tensor& weights, const ExpertOrder& order, bool keep_less, Products products);
  static at::Tensor run(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down,
                        const at::Tensor& weights, const ExpertOrder& order, bool keep_less, Products products);
};

}  // namespace norma
