// Norms, rotations and activations by the loops of row_loops.h. Their backward passes are still those of the reference,
// but for the rotation.
#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cpu/paths.h"
#include "cpu/row_loops.h"
#include "reference.h"

namespace norma::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kElementsAtOnce = 1 << 14;  // the least that a thread takes

// Whether the rows of x [.., inner, n] are dense, and all dimensions but the last two follow each other evenly.
Support supports_rows(const at::Tensor& x) {
  const std::int64_t dims = x.dim();
  if (const Support elements = supports_elements(x); !elements) return elements;
  if (x.numel() == 0) return {};
  if (dims < 1 || x.stride(-1) != 1) return {"its rows are not dense"};
  for (std::int64_t d = 0; d + 3 < dims; ++d) {
    if (x.stride(d) != x.stride(d + 1) * x.size(d + 1)) return {"its rows do not lie evenly"};
  }
  return {};
}

Rows rows_of(const at::Tensor& x) {
  const std::int64_t dims = x.dim(), width = x.size(-1);
  if (dims == 1) return {x.const_data_ptr(), width, 1, width, width};
  const std::int64_t inner = x.size(-2), inner_stride = x.stride(-2);
  return {x.const_data_ptr(), width, inner, dims > 2 ? x.stride(-3) : inner * inner_stride, inner_stride};
}

// body(first row, one past the last) for parts of the rows of x [..., n].
template <class Body>
void for_each_part(const at::Tensor& x, const Body& body) {
  const std::int64_t width = std::max<std::int64_t>(x.size(-1), 1);
  at::parallel_for(0, x.numel() / width, std::max<std::int64_t>(1, kElementsAtOnce / width), body);
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = 1;
    const at::Tensor y = at::empty(x.sizes(), x.options()), scale = at::empty(shape, x.options().dtype(at::kFloat));
    const Rows rows = rows_of(x);
    void* const out = y.mutable_data_ptr();
    auto* const factors = scale.mutable_data_ptr<float>();
    for_each_part(x, [&](std::int64_t begin, std::int64_t end) {
      normalize_rows(element_of(x), rows, weight.const_data_ptr(), eps, begin, end, out, factors);
    });
    ctx->save_for_backward({x, weight, scale});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto gradients = reference::rms_norm_backward(grads[0], saved[0], saved[1], saved[2]);
    return {gradients.x, gradients.weight, {}};
  }
};

// x [B, T, heads, E] turned by cos and sin [T, 1, E/2], the other way for sign -1.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double sign) {
  const at::Tensor y = at::empty(x.sizes(), x.options());
  const Rows rows = rows_of(x);
  void* const out = y.mutable_data_ptr();
  for_each_part(x, [&](std::int64_t begin, std::int64_t end) {
    rotate_rows(element_of(x), rows, cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), x.size(1),
                static_cast<float>(sign), begin, end, out);
  });
  return y;
}

struct RopeFunction : torch::autograd::Function<RopeFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotate(x, cos, sin, 1.0);
  }

  // The layout of a gradient is not ours to choose.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &grad = grads[0], &cos = saved[0], &sin = saved[1];
    return {supports_rows(grad) ? rotate(grad, cos, sin, -1.0) : reference::rotate(grad, {cos, sin}, -1.0), {}, {}};
  }
};

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& up_gate) {
    ctx->save_for_backward({up_gate});
    return swiglu_forward(up_gate);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {reference::swiglu_backward(grads[0], ctx->get_saved_variables()[0])};
  }
};

}  // namespace

Support supports_elements(const at::Tensor& x) {
  const bool known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return known && x.is_cpu() ? Support{} : Support{"its type is neither float32 nor bfloat16"};
}

Element element_of(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? Element::bfloat16 : Element::float32;
}

Support RmsNorm::supports(const at::Tensor& x, const at::Tensor& weight, double /*eps*/) {
  if (weight.scalar_type() != x.scalar_type()) return {"the gain has another type"};
  if (!weight.is_contiguous()) return {"the gain is not dense"};
  return supports_rows(x);
}

at::Tensor RmsNorm::run(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

Support Rope::supports(const at::Tensor& x, const RopeTable& table) {
  if (table.pairs != RotaryPairs::halves) return {"pairs are adjacent channels"};
  if (table.cos.dim() != 3) return {"rows of the batch have positions of their own"};
  if (table.cos.scalar_type() != at::kFloat) return {"the table is not in float32"};
  if (!table.cos.is_contiguous() || !table.sin.is_contiguous()) return {"the table is not dense"};
  return supports_rows(x);
}

at::Tensor Rope::run(const at::Tensor& x, const RopeTable& table) {
  return RopeFunction::apply(x, table.cos, table.sin);
}

Support Swiglu::supports(const at::Tensor& up_gate) {
  return up_gate.is_contiguous() ? supports_elements(up_gate) : Support{"its rows are not dense"};
}

at::Tensor Swiglu::run(const at::Tensor& up_gate) {
  return SwigluFunction::apply(up_gate);
}

at::Tensor swiglu_forward(const at::Tensor& up_gate) {
  std::vector<std::int64_t> shape = up_gate.sizes().vec();
  const std::int64_t width = shape.back() /= 2;
  const at::Tensor y = at::empty(shape, up_gate.options());
  const auto bytes = static_cast<std::int64_t>(y.element_size());
  const auto* const in = static_cast<const char*>(up_gate.const_data_ptr());
  auto* const out = static_cast<char*>(y.mutable_data_ptr());
  for_each_part(y, [&](std::int64_t begin, std::int64_t end) {
    activate_rows(element_of(y), in + begin * 2 * width * bytes, end - begin, width, out + begin * width * bytes);
  });
  return y;
}

}  // namespace norma::cpu
