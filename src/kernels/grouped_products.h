// The products of rows in the experts' order with the experts' matrices: one at::_grouped_mm for all, or one product
// for each expert into its part of a result that exists beforehand.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace norma {

// M rows, E experts with matrices [E, out, in].
class GroupedProducts {
 public:
  // ends [E] as in ExpertOrder. On CUDA a product for each expert needs them on the host, and waits for the device.
  GroupedProducts(const at::Tensor& ends, bool one_call);

  // rows [M, in] -> [M, out].
  at::Tensor forward(const at::Tensor& rows, const at::Tensor& matrices) const;

  // grad [M, out] -> [M, in].
  at::Tensor input_gradient(const at::Tensor& grad, const at::Tensor& matrices) const;

  // grad [M, out], rows [M, in] -> the gradient of the matrices [E, out, in]; zero for an expert without rows.
  at::Tensor weight_gradient(const at::Tensor& grad, const at::Tensor& rows) const;

 private:
  at::Tensor multiply(const at::Tensor& rows, const at::Tensor& matrices) const;
  template <class Body>
  void for_each_expert(const Body& body) const;

  at::Tensor ends_;
  bool one_call_;
  std::vector<std::int64_t> bounds_;  // on the host: rows [bounds_[e], bounds_[e + 1]) are those of expert e
};

}  // namespace norma
