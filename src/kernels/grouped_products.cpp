#include "grouped_products.h"

#include <ATen/ATen.h>

namespace norma {

GroupedProducts::GroupedProducts(const at::Tensor& ends, bool one_call) : ends_(ends), one_call_(one_call) {
  if (one_call) return;
  const at::Tensor host = ends.to(at::kCPU, at::kLong);
  bounds_ = {0};
  bounds_.insert(bounds_.end(), host.const_data_ptr<std::int64_t>(),
                 host.const_data_ptr<std::int64_t>() + host.numel());
}

// body(expert, first row, number of rows).
template <class Body>
void GroupedProducts::for_each_expert(const Body& body) const {
  for (std::size_t e = 0; e + 1 < bounds_.size(); ++e) {
    body(static_cast<std::int64_t>(e), bounds_[e], bounds_[e + 1] - bounds_[e]);
  }
}

// rows [M, in], matrices [E, in, out] -> [M, out].
at::Tensor GroupedProducts::multiply(const at::Tensor& rows, const at::Tensor& matrices) const {
  if (one_call_) return at::_grouped_mm(rows, matrices, ends_);
  const at::Tensor out = at::empty({rows.size(0), matrices.size(2)}, rows.options());
  for_each_expert([&](std::int64_t e, std::int64_t begin, std::int64_t count) {
    if (count == 0) return;
    at::Tensor part = out.narrow(0, begin, count);
    at::mm_out(part, rows.narrow(0, begin, count), matrices.select(0, e));
  });
  return out;
}

at::Tensor GroupedProducts::forward(const at::Tensor& rows, const at::Tensor& matrices) const {
  return multiply(rows, matrices.transpose(1, 2));
}

at::Tensor GroupedProducts::input_gradient(const at::Tensor& grad, const at::Tensor& matrices) const {
  return multiply(grad, matrices);
}

at::Tensor GroupedProducts::weight_gradient(const at::Tensor& grad, const at::Tensor& rows) const {
  if (one_call_) return at::_grouped_mm(grad.t(), rows, ends_);
  const at::Tensor out = at::empty({ends_.numel(), grad.size(1), rows.size(1)}, rows.options());
  for_each_expert([&](std::int64_t e, std::int64_t begin, std::int64_t count) {
    at::Tensor part = out.select(0, e);
    if (count == 0) {
      part.zero_();
    } else {
      at::mm_out(part, grad.narrow(0, begin, count).t(), rows.narrow(0, begin, count));
    }
  });
  return out;
}

}  // namespace norma
