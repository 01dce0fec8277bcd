// Attention that may replace the reference where it says so.
#pragma once

#include <ATen/core/Tensor.h>

namespace norma {

// Causal, on a CPU, float32 or bfloat16, heads of a multiple of 16, at least 64 tokens.
bool fused_attention_supports(const at::Tensor& q, const at::Tensor& k, bool causal, bool masked);

// As attention() in ops.h. Products and softmax in float32 for either type.
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

}  // namespace norma
