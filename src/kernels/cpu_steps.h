// Steps between matrix products that have a loop of their own on a CPU. Each is what reference.cpp composes, in one
// pass.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "cpu_attention.h"

namespace norma {

// Whether the loops read this type here; else ATen's calls do.
bool has_cpu_loops(const at::Tensor& x);
cpu::Element element_of(const at::Tensor& x);  // of one that they read

struct NormedRows {
  at::Tensor y;      // as x, dense
  at::Tensor scale;  // [..., 1] float32
};
// rms_norm of x [..., n] whose rows are dense and lie evenly, as in a part of a projection; nullopt for others.
std::optional<NormedRows> cpu_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// x [B, T, heads, E], evenly lying rows, turned in pairs (i, i + E/2) by cos and sin [T, 1, E/2] of float32, the other
// way for sign -1; nullopt for others.
std::optional<at::Tensor> cpu_rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double sign);

// swiglu of dense rows; nullopt for others.
std::optional<at::Tensor> cpu_swiglu(const at::Tensor& up_gate);

}  // namespace norma
