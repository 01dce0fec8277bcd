// The choice of experts and the order by expert in plain loops.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "cpu/paths.h"
#include "reference.h"

namespace norma::cpu {
namespace {

// The k largest of each of the rows [begin, end); of equal values, and behind a NaN, the one that stands first.
template <class T>
void choose_rows(const T* values, std::int64_t width, std::int64_t k, std::int64_t begin, std::int64_t end,
                 std::int64_t* out) {
  std::vector<char> taken(static_cast<std::size_t>(width));
  for (std::int64_t row = begin; row < end; ++row) {
    const T* const v = values + row * width;
    std::fill(taken.begin(), taken.end(), 0);
    for (std::int64_t j = 0; j < k; ++j) {
      std::int64_t best = -1;
      for (std::int64_t e = 0; e < width; ++e) {
        if (!taken[static_cast<std::size_t>(e)] && (best < 0 || v[e] > v[best])) best = e;
      }
      taken[static_cast<std::size_t>(best)] = 1;
      out[row * k + j] = best;
    }
  }
}

at::Tensor top_k(const at::Tensor& values, std::int64_t k) {
  const at::Tensor dense = values.contiguous();
  const std::int64_t rows = dense.size(0), width = dense.size(1);
  at::Tensor chosen = at::empty({rows, k}, values.options().dtype(at::kLong));
  auto* const out = chosen.mutable_data_ptr<std::int64_t>();
  at::parallel_for(0, rows, 256, [&](std::int64_t begin, std::int64_t end) {
    if (dense.scalar_type() == at::kDouble) {
      choose_rows(dense.const_data_ptr<double>(), width, k, begin, end, out);
    } else {
      choose_rows(dense.const_data_ptr<float>(), width, k, begin, end, out);
    }
  });
  return chosen;
}

}  // namespace

Support Route::supports(const at::Tensor&, const std::optional<at::Tensor>&, const RouterRule&) {
  return {};
}

Routing Route::run(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule) {
  return reference::route_with(top_k, logits, bias, rule);
}

Support OrderByExpert::supports(const at::Tensor&, const at::Tensor&) {
  return {};
}

ExpertOrder OrderByExpert::run(const at::Tensor& experts, const at::Tensor& counts) {
  const at::Tensor flat = experts.contiguous().flatten(), ends = counts.cumsum(0).to(at::kInt);
  const ExpertOrder order{at::empty_like(flat), at::empty_like(flat), ends};
  std::vector<std::int64_t> next = {0};  // row of each expert's next pair
  next.insert(next.end(), ends.const_data_ptr<std::int32_t>(), ends.const_data_ptr<std::int32_t>() + ends.numel());
  const auto* const chosen = flat.const_data_ptr<std::int64_t>();
  auto* const pairs = order.pairs.mutable_data_ptr<std::int64_t>();
  auto* const rows = order.rows.mutable_data_ptr<std::int64_t>();
  for (std::int64_t pair = 0; pair < flat.numel(); ++pair) {
    rows[pair] = next[static_cast<std::size_t>(chosen[pair])]++;
    pairs[rows[pair]] = pair;
  }
  return order;
}

}  // namespace norma::cpu
