#include <cmath>

#include <ATen/ATen.h>

#include "norma/kernels/ops.h"

namespace norma {

RopeTable RopeTable::slice(std::int64_t begin, std::int64_t length) const {
  return {cos.narrow(0, begin, length), sin.narrow(0, begin, length), pairs};
}

RopeTable RopeTable::of_rows(const at::Tensor& positions) const {
  return {cos.index_select(0, positions).unsqueeze(1), sin.index_select(0, positions).unsqueeze(1), pairs};
}

RopeTable make_rope_table(std::int64_t length, const std::vector<double>& frequencies, at::ScalarType type,
                          at::Device device, RotaryPairs pairs, double factor) {
  const at::Tensor position = at::arange(length, at::TensorOptions().dtype(at::kDouble));
  const at::Tensor angle = at::outer(position, at::tensor(frequencies, at::kDouble)).unsqueeze(1);  // [T, 1, E/2]
  const at::ScalarType wide = accumulate_type(type);
  return {angle.cos().mul_(factor).to(device, wide), angle.sin().mul_(factor).to(device, wide), pairs};
}

RopeTable make_rope_table(std::int64_t length, std::int64_t head_dim, double theta, at::ScalarType type,
                          at::Device device) {
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < head_dim; i += 2) {
    frequencies.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(head_dim)));
  }
  return make_rope_table(length, frequencies, type, device);
}

}  // namespace norma
