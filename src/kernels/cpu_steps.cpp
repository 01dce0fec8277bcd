#include "cpu_steps.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "cpu_rows.h"
#include "kernel_path.h"

namespace norma {
namespace {

constexpr std::int64_t kElementsAtOnce = 1 << 14;  // that a thread takes at least

// Rows of x [.., inner, n]: all dimensions but the last two must follow each other evenly.
std::optional<cpu::Rows> even_rows(const at::Tensor& x) {
  const std::int64_t dims = x.dim(), width = x.size(-1);
  if (dims < 1 || x.stride(-1) != 1 || x.numel() == 0) return std::nullopt;
  if (dims == 1) return cpu::Rows{x.const_data_ptr(), width, 1, width, width};
  for (std::int64_t d = 0; d + 3 < dims; ++d) {
    if (x.stride(d) != x.stride(d + 1) * x.size(d + 1)) return std::nullopt;
  }
  const std::int64_t inner = x.size(-2), inner_stride = x.stride(-2);
  return cpu::Rows{x.const_data_ptr(), width, inner, dims > 2 ? x.stride(-3) : inner * inner_stride, inner_stride};
}

std::int64_t grain(std::int64_t width) {
  return std::max<std::int64_t>(1, kElementsAtOnce / width);
}

}  // namespace

bool has_cpu_loops(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

cpu::Element element_of(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? cpu::Element::bfloat16 : cpu::Element::float32;
}

std::optional<NormedRows> cpu_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const std::optional<cpu::Rows> rows = even_rows(x);
  const bool supported = rows && has_cpu_loops(x) && weight.scalar_type() == x.scalar_type() && weight.is_contiguous();
  if (!supported || !takes_fused_path(true, "rms_norm")) return std::nullopt;
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = 1;
  const NormedRows result{at::empty(x.sizes(), x.options()), at::empty(shape, x.options().dtype(at::kFloat))};
  void* const out = result.y.mutable_data_ptr();
  auto* const scale = result.scale.mutable_data_ptr<float>();
  at::parallel_for(0, x.numel() / rows->width, grain(rows->width), [&](std::int64_t begin, std::int64_t end) {
    cpu::normalize_rows(element_of(x), *rows, weight.const_data_ptr(), eps, begin, end, out, scale);
  });
  return result;
}

std::optional<at::Tensor> cpu_rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double sign) {
  const std::optional<cpu::Rows> rows = even_rows(x);
  const bool is_table = cos.dim() == 3 && x.dim() == 4 && cos.size(0) == x.size(1) && cos.is_contiguous() &&
                        sin.is_contiguous() && cos.scalar_type() == at::kFloat;
  if (!rows || !is_table || !has_cpu_loops(x) || !takes_fused_path(true, "rope")) return std::nullopt;
  const at::Tensor out = at::empty(x.sizes(), x.options());
  void* const to = out.mutable_data_ptr();
  at::parallel_for(0, x.numel() / rows->width, grain(rows->width), [&](std::int64_t begin, std::int64_t end) {
    cpu::rotate_rows(element_of(x), *rows, cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), x.size(1),
                     static_cast<float>(sign), begin, end, to);
  });
  return out;
}

std::optional<at::Tensor> cpu_swiglu(const at::Tensor& up_gate) {
  const bool supported = has_cpu_loops(up_gate) && up_gate.is_contiguous() && up_gate.numel() > 0;
  if (!supported || !takes_fused_path(true, "swiglu")) return std::nullopt;
  std::vector<std::int64_t> shape = up_gate.sizes().vec();
  const std::int64_t width = shape.back() /= 2;
  const at::Tensor out = at::empty(shape, up_gate.options());
  const auto bytes = static_cast<std::int64_t>(out.element_size());
  const auto* const in = static_cast<const char*>(up_gate.const_data_ptr());
  auto* const to = static_cast<char*>(out.mutable_data_ptr());
  at::parallel_for(0, out.numel() / width, grain(width), [&](std::int64_t begin, std::int64_t end) {
    cpu::activate_rows(element_of(out), in + begin * 2 * width * bytes, end - begin, width, to + begin * width * bytes);
  });
  return out;
}

}  // namespace norma
