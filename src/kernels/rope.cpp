// Rotary position embedding.
#include <cmath>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "cpu_steps.h"

namespace norma {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// First and second channels of all pairs, [..., E/2] each.
std::pair<at::Tensor, at::Tensor> split_pairs(const at::Tensor& x, RotaryPairs pairs) {
  const std::int64_t half = x.size(-1) / 2;
  if (pairs == RotaryPairs::halves) return {x.narrow(-1, 0, half), x.narrow(-1, half, half)};
  const at::Tensor two = x.unflatten(-1, {half, 2});  // [..., E/2, 2]
  return {two.select(-1, 0), two.select(-1, 1)};
}

// [B, T, h, E] rotated by the angles of `table`; sign -1 is the inverse rotation.
at::Tensor rotate(const at::Tensor& x, const RopeTable& table, double sign) {
  if (table.pairs == RotaryPairs::halves) {
    if (const std::optional<at::Tensor> out = cpu_rotate(x, table.cos, table.sin, sign)) return *out;
  }
  const at::Tensor wide = x.to(accumulate_type(x.scalar_type()));
  const at::Tensor out = at::empty(x.sizes(), wide.options());
  const auto [a, b] = split_pairs(wide, table.pairs);
  auto [first, second] = split_pairs(out, table.pairs);
  at::mul_out(first, a, table.cos).addcmul_(b, table.sin, -sign);
  at::mul_out(second, b, table.cos).addcmul_(a, table.sin, sign);
  return out.to(x.scalar_type());
}

struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            bool adjacent) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["adjacent"] = adjacent;
    return rotate(x, {cos, sin, adjacent ? RotaryPairs::adjacent : RotaryPairs::halves}, 1.0);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const bool adjacent = ctx->saved_data["adjacent"].toBool();
    const RopeTable table{saved[0], saved[1], adjacent ? RotaryPairs::adjacent : RotaryPairs::halves};
    return {rotate(grads[0], table, -1.0), {}, {}, {}};
  }
};

}  // namespace

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

at::Tensor ops::rope(const at::Tensor& x, const RopeTable& table) {
  NORMA_CHECK(x.size(1) == table.cos.size(-3), "[rope] time of x ", x.size(1), ", of the table ", table.cos.size(-3));
  NORMA_CHECK(x.size(-1) == 2 * table.cos.size(-1), "[rope] width of x ", x.size(-1), ", of the table ",
              2 * table.cos.size(-1));
  return Rope::apply(x, table.cos, table.sin, table.pairs == RotaryPairs::adjacent);
}

}  // namespace norma
