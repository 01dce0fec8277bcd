// The fused paths on a CPU, with the arguments of reference.h. Each does in one pass what the reference composes of
// several. Those before Route read float32 and bfloat16 and compute in float32.
#pragma once

#include "norma/kernels/experts.h"
#include "norma/kernels/ops.h"

#include "cpu/attention_loops.h"
#include "support.h"

namespace norma::cpu {

// For rows that are dense and lie evenly, as the rows in a part of a projection do.
struct RmsNorm {
  static Support supports(const at::Tensor& x, const at::Tensor& weight, double eps);
  static at::Tensor run(const at::Tensor& x, const at::Tensor& weight, double eps);
};

// For rows like those of RmsNorm, pairs in halves, and one table for the whole batch.
struct Rope {
  static Support supports(const at::Tensor& x, const RopeTable& table);
  static at::Tensor run(const at::Tensor& x, const RopeTable& table);
};

// For a dense tensor.
struct Swiglu {
  static Support supports(const at::Tensor& up_gate);
  static at::Tensor run(const at::Tensor& up_gate);
};
at::Tensor swiglu_forward(const at::Tensor& up_gate);  // without a graph

// For at least 64 tokens that are causal and have no mask, and heads whose width is a multiple of 16.
struct Attention {
  static Support supports(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                          const std::optional<at::Tensor>& mask, double scale);
  static at::Tensor run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                        const std::optional<at::Tensor>& mask, double scale);
};

// Chooses by a loop over each row, where the reference sorts.
struct Route {
  static Support supports(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule);
  static Routing run(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule);
};

// A counting sort, since the ends of each expert's rows are known.
struct OrderByExpert {
  static Support supports(const at::Tensor& experts, const at::Tensor& counts);
  static ExpertOrder run(const at::Tensor& experts, const at::Tensor& counts);
};

// Whether the loops read the type of x, and what it is to them.
Support supports_elements(const at::Tensor& x);
Element element_of(const at::Tensor& x);

}  // namespace norma::cpu
