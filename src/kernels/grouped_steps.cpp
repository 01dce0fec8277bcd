#include "grouped_steps.h"

#include <cstring>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include "norma/base/error.h"

#include "cpu/paths.h"
#include "cpu/row_loops.h"
#include "reference.h"

namespace norma {
namespace {

constexpr std::int64_t kRowsAtOnce = 32;  // the least that a thread takes
constexpr std::int64_t kRoundTo = 32;     // the rows of an expert become a multiple of it

// The name in a trace of what is spent on bringing rows to their experts and back.
constexpr char kPermutation[] = "experts: permutation";

bool has_loops(const at::Tensor& x) {
  return static_cast<bool>(cpu::supports_elements(x));
}

// Row `row` of a dense matrix.
char* row_of(const at::Tensor& x, std::int64_t row) {
  NORMA_CHECK(x.is_contiguous(), "[experts] rows of a matrix ", x.sizes(), " with strides ", x.strides());
  return static_cast<char*>(x.data_ptr()) + row * x.size(1) * static_cast<std::int64_t>(x.element_size());
}

ActivationGradients composed_activation_backward(const at::Tensor& grad, const at::Tensor& up_gate,
                                                 const at::Tensor& weights) {
  const auto halves = up_gate.chunk(2, -1);  // up, gate: [N k, F] each
  const at::Tensor &up = halves[0], &gate = halves[1];
  const at::Tensor column = weights.unsqueeze(1).to(grad.scalar_type());
  const at::Tensor silu = at::silu(gate), activation = silu * up, weighted_grad = grad * column;
  at::Tensor out = at::empty_like(up_gate);
  const auto parts = out.chunk(2, -1);
  at::Tensor grad_up = parts[0], grad_gate = parts[1];
  at::mul_out(grad_up, weighted_grad, silu);
  grad_gate.copy_(at::silu_backward(weighted_grad * up, gate));
  return {out, activation * column, at::sum(grad * activation, at::IntArrayRef{1}, false, weights.scalar_type())};
}

}  // namespace

ExpertOrder with_round_sizes(const ExpertOrder& order, const at::Tensor& x) {
  RECORD_USER_SCOPE(kPermutation);
  const std::int64_t experts = order.ends.numel(), all = order.pairs.numel();
  if (!has_loops(x) || all < kRoundTo * experts) return order;
  const auto* const pairs = order.pairs.const_data_ptr<std::int64_t>();
  const auto* const ends = order.ends.const_data_ptr<std::int32_t>();
  ExpertOrder round{{}, at::empty_like(order.rows), at::empty_like(order.ends)};
  auto* const rows = round.rows.mutable_data_ptr<std::int64_t>();
  auto* const round_ends = round.ends.mutable_data_ptr<std::int32_t>();
  std::vector<std::int64_t> list;
  list.reserve(static_cast<std::size_t>(all + kRoundTo * experts));
  for (std::int64_t e = 0, row = 0; e < experts; ++e) {
    for (; row < ends[e]; ++row) {
      rows[pairs[row]] = static_cast<std::int64_t>(list.size());
      list.push_back(pairs[row]);
    }
    while (list.size() % kRoundTo != 0) list.push_back(-1);
    round_ends[e] = static_cast<std::int32_t>(list.size());
  }
  round.pairs = at::tensor(list, order.pairs.options());
  return round;
}

at::Tensor spread_rows(const at::Tensor& x, const ExpertOrder& order) {
  RECORD_USER_SCOPE(kPermutation);
  const std::int64_t choices = order.rows.numel() / std::max<std::int64_t>(x.size(0), 1);
  if (!x.is_cpu()) return x.index_select(0, order.pairs.floor_divide(choices));
  const at::Tensor dense = x.contiguous(), out = at::empty({order.pairs.numel(), x.size(1)}, x.options());
  const auto* const pairs = order.pairs.const_data_ptr<std::int64_t>();
  const auto bytes = static_cast<std::size_t>(x.size(1)) * x.element_size();
  at::parallel_for(0, out.size(0), kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (pairs[i] < 0) {
        std::memset(row_of(out, i), 0, bytes);
      } else {
        std::memcpy(row_of(out, i), row_of(dense, pairs[i] / choices), bytes);
      }
    }
  });
  return out;
}

at::Tensor spread_weights(const at::Tensor& weights, const ExpertOrder& order) {
  RECORD_USER_SCOPE(kPermutation);
  if (order.pairs.numel() == weights.numel()) return weights.flatten().index_select(0, order.pairs);
  return at::zeros({order.pairs.numel()}, weights.options()).index_copy_(0, order.rows, weights.flatten());
}

at::Tensor sum_rows(const at::Tensor& rows, const at::Tensor& weights, const ExpertOrder& order, std::int64_t tokens) {
  RECORD_USER_SCOPE(kPermutation);
  const std::int64_t choices = order.rows.numel() / std::max<std::int64_t>(tokens, 1), width = rows.size(1);
  if (!has_loops(rows)) {
    const at::Tensor mine =
        reference::accumulate(rows.index_select(0, order.rows).view({tokens, choices, width}));  // [N, k, D]
    return (weights.defined() ? mine * weights.unsqueeze(-1) : mine).sum(1).to(rows.scalar_type());
  }
  const at::Tensor out = at::empty({tokens, width}, rows.options()),
                   dense = weights.defined() ? weights.contiguous() : weights;
  const auto* const indices = order.rows.const_data_ptr<std::int64_t>();
  const float* const factors = dense.defined() ? dense.const_data_ptr<float>() : nullptr;
  at::parallel_for(0, tokens, kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    cpu::sum_rows(cpu::element_of(rows), rows.const_data_ptr(), indices + begin * choices,
                  factors == nullptr ? nullptr : factors + begin * choices, end - begin, choices, width,
                  row_of(out, begin));
  });
  return out;
}

at::Tensor activation(const at::Tensor& up_gate) {
  return has_loops(up_gate) ? cpu::swiglu_forward(up_gate) : reference::swiglu_forward(up_gate);
}

ActivationGradients activation_backward(const at::Tensor& grad, const at::Tensor& up_gate, const at::Tensor& weights) {
  if (!has_loops(grad)) return composed_activation_backward(grad, up_gate, weights);
  const ActivationGradients out{at::empty_like(up_gate), at::empty_like(grad), at::empty_like(weights)};
  const float* const factors = weights.const_data_ptr<float>();
  auto* const of_factors = out.weights.mutable_data_ptr<float>();
  at::parallel_for(0, grad.size(0), kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    cpu::activation_backward_rows(cpu::element_of(grad),
                                  {row_of(grad, begin), row_of(up_gate, begin), factors + begin,
                                   row_of(out.up_gate, begin), row_of(out.weighted, begin), of_factors + begin},
                                  end - begin, grad.size(1));
  });
  return out;
}

}  // namespace norma
