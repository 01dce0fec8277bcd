// The loops over rows that lie between the matrix products on a CPU, in one pass each. They compute in float32,
// whatever the type of the elements is. Nothing here knows LibTorch.
#pragma once

#include <cstdint>

#include "cpu/attention_loops.h"

namespace norma::cpu {

// A range of rows of SwiGLU: up_gate [rows, 2 width] (up, then gate) -> out [rows, width] = silu(gate) * up.
void activate_rows(Element element, const void* up_gate, std::int64_t rows, std::int64_t width, void* out);

// Rows of `width` elements each: row r lies at x + (r / inner) * outer_stride + (r % inner) * inner_stride, in
// elements.
struct Rows {
  const void* x;
  std::int64_t width, inner, outer_stride, inner_stride;
};

// Rows [begin, end) of RMSNorm: out [rows, width] = x * scale, rounded to its type, times weight [width]; scale [rows]
// = 1 / sqrt(mean(x^2) + eps), as in ops.h.
void normalize_rows(Element element, const Rows& rows, const void* weight, double eps, std::int64_t begin,
                    std::int64_t end, void* out, float* scale);

// Rows [begin, end) of RoPE over pairs (i, i + width / 2): row r is at position (r / inner) % times and is turned by
// the angles of cos and sin [times, width / 2], the other way for sign -1. out [rows, width].
void rotate_rows(Element element, const Rows& rows, const float* cos, const float* sin, std::int64_t times, float sign,
                 std::int64_t begin, std::int64_t end, void* out);

struct ActivationRows {
  const void* grad;      // [rows, width] d loss / d (activation before its row's weight)
  const void* up_gate;   // [rows, 2 width]
  const float* weights;  // [rows]
  void* grad_up_gate;    // [rows, 2 width], weighted
  void* weighted;        // [rows, width] the activation times its row's weight
  float* grad_weights;   // [rows]
};
void activation_backward_rows(Element element, const ActivationRows& pointers, std::int64_t rows, std::int64_t width);

// out [tokens, width]: out[t] = sum over j < choices of weights[t, j] * rows[indices[t, j]]; weights null: ones.
void sum_rows(Element element, const void* rows, const std::int64_t* indices, const float* weights, std::int64_t tokens,
              std::int64_t choices, std::int64_t width, void* out);

}  // namespace norma::cpu
