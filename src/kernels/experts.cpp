// The experts themselves. Three ways to the same numbers: a composition of ATen calls that defines them; one Function
// with its own backward whose products go expert by expert into places made beforehand, or as one grouped call each.
#include "norma/kernels/experts.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "expert_steps.h"
#include "kernel_path.h"

namespace norma {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// First and last place of every expert, on the host: waits for the device when there is one.
std::vector<std::int64_t> host_bounds(const at::Tensor& ends) {
  const at::Tensor host = ends.to(at::kCPU, at::kLong);
  std::vector<std::int64_t> bounds = {0};
  bounds.insert(bounds.end(), host.const_data_ptr<std::int64_t>(), host.const_data_ptr<std::int64_t>() + host.numel());
  return bounds;
}

// Products of rows in the experts' order with the experts' matrices [E, out, in].
class ExpertProducts {
 public:
  ExpertProducts(const at::Tensor& ends, bool one_call) : ends_(ends), one_call_(one_call) {
    if (!one_call) bounds_ = host_bounds(ends);
  }

  // rows [M, in] -> [M, out].
  at::Tensor forward(const at::Tensor& rows, const at::Tensor& matrices) const {
    return multiply(rows, matrices.transpose(1, 2));
  }

  // grad [M, out] -> [M, in].
  at::Tensor backward(const at::Tensor& grad, const at::Tensor& matrices) const { return multiply(grad, matrices); }

  // grad [M, out], rows [M, in] -> the gradient of the matrices [E, out, in]; zero for an expert without rows.
  at::Tensor weight_gradient(const at::Tensor& grad, const at::Tensor& rows) const {
    if (one_call_) return at::_grouped_mm(grad.t(), rows, ends_);
    const at::Tensor out = at::empty({ends_.numel(), grad.size(1), rows.size(1)}, rows.options());
    each([&](std::int64_t e, std::int64_t begin, std::int64_t count) {
      at::Tensor of_expert = out.select(0, e);
      if (count == 0) {
        of_expert.zero_();
      } else {
        at::mm_out(of_expert, grad.narrow(0, begin, count).t(), rows.narrow(0, begin, count));
      }
    });
    return out;
  }

 private:
  // rows [M, in], matrices [E, in, out] -> [M, out].
  at::Tensor multiply(const at::Tensor& rows, const at::Tensor& matrices) const {
    if (one_call_) return at::_grouped_mm(rows, matrices, ends_);
    const at::Tensor out = at::empty({rows.size(0), matrices.size(2)}, rows.options());
    each([&](std::int64_t e, std::int64_t begin, std::int64_t count) {
      if (count == 0) return;
      at::Tensor of_expert = out.narrow(0, begin, count);
      at::mm_out(of_expert, rows.narrow(0, begin, count), matrices.select(0, e));
    });
    return out;
  }

  template <class Body>
  void each(const Body& body) const {
    for (std::size_t e = 0; e + 1 < bounds_.size(); ++e) {
      body(static_cast<std::int64_t>(e), bounds_[e], bounds_[e + 1] - bounds_[e]);
    }
  }

  at::Tensor ends_;
  bool one_call_;
  std::vector<std::int64_t> bounds_;
};

// Keeps x by expert (or x alone) and the projection; the activation is made again in backward. A result's weight
// needs no product of its own: with g = d loss / d y_t, d weight = (g down) . activation.
struct ExpertMlp : torch::autograd::Function<ExpertMlp> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& up_gate,
                            const at::Tensor& down, const at::Tensor& weights, const ExpertOrder& given, bool keep_less,
                            bool one_call) {
    const ExpertOrder order = one_call ? given : with_round_sizes(given, x);
    const ExpertProducts products(order.ends, one_call);
    const at::Tensor rows = spread_rows(x, order);                              // [M, D]
    const at::Tensor projected = products.forward(rows, up_gate);               // [M, 2F]
    const at::Tensor results = products.forward(ops::swiglu(projected), down);  // [M, D]
    ctx->save_for_backward(
        {keep_less ? x : rows, projected, up_gate, down, weights, order.pairs, order.rows, order.ends});
    ctx->saved_data["keep_less"] = keep_less;
    ctx->saved_data["one_call"] = one_call;
    return sum_rows(results, weights, order, x.size(0));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &projected = saved[1], &up_gate = saved[2], &down = saved[3], &weights = saved[4];
    const ExpertOrder order{saved[5], saved[6], saved[7]};
    const ExpertProducts products(order.ends, ctx->saved_data["one_call"].toBool());
    const at::Tensor rows = ctx->saved_data["keep_less"].toBool() ? spread_rows(saved[0], order) : saved[0];
    const at::Tensor of_results = spread_rows(grads[0], order);            // [M, D], not yet weighted
    const at::Tensor of_activation = products.backward(of_results, down);  // [M, F], likewise
    const at::Tensor of_places = spread_weights(weights, order);           // [M]
    const ActivationGradients inner = activation_backward(of_activation, projected, of_places);
    const at::Tensor of_rows = products.backward(inner.up_gate, up_gate);  // [M, D]
    const auto unless_frozen = [&](std::size_t input, const at::Tensor& grad, const at::Tensor& of) {
      return ctx->needs_input_grad(input) ? products.weight_gradient(grad, of) : at::Tensor();
    };
    return {sum_rows(of_rows, {}, order, weights.size(0)),
            unless_frozen(1, inner.up_gate, rows),
            unless_frozen(2, of_results, inner.weighted),
            inner.weights.index_select(0, order.rows).view(weights.sizes()),
            {},
            {},
            {}};
  }
};

at::Tensor reference_expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down,
                                const at::Tensor& weights, const ExpertOrder& order) {
  const std::vector<std::int64_t> bounds = host_bounds(order.ends);
  const at::Tensor rows = x.index_select(0, order.pairs.floor_divide(weights.size(1)));  // [N k, D]
  const auto first = up_gate.unbind(0), second = down.unbind(0);
  std::vector<at::Tensor> results;
  for (std::size_t e = 0; e < first.size(); ++e) {
    const at::Tensor mine = rows.narrow(0, bounds[e], bounds[e + 1] - bounds[e]);
    results.push_back(ops::linear(ops::swiglu(ops::linear(mine, first[e])), second[e]));
  }
  const at::Tensor wide = at::cat(results)  // [N k, D], by expert
                              .index_select(0, order.rows)
                              .view({x.size(0), weights.size(1), x.size(1)})  // [N, k, D], by token
                              .to(accumulate_type(x.scalar_type()));
  return (wide * weights.unsqueeze(-1)).sum(1).to(x.scalar_type());  // [N, D]
}

// A counting sort: the ends are known.
ExpertOrder count_into_order(const at::Tensor& experts, const at::Tensor& ends) {
  const ExpertOrder order{at::empty_like(experts), at::empty_like(experts), ends};
  std::vector<std::int64_t> next = host_bounds(ends);  // place of each expert's next pair
  const auto* const chosen = experts.const_data_ptr<std::int64_t>();
  auto* const pairs = order.pairs.mutable_data_ptr<std::int64_t>();
  auto* const places = order.rows.mutable_data_ptr<std::int64_t>();
  for (std::int64_t pair = 0; pair < experts.numel(); ++pair) {
    places[pair] = next[static_cast<std::size_t>(chosen[pair])]++;
    pairs[places[pair]] = pair;
  }
  return order;
}

}  // namespace

namespace {

// at::_grouped_mm wants rows of whole 16 bytes.
bool has_grouped_widths(std::int64_t model, std::int64_t inner) {
  constexpr std::int64_t kElements = 8;  // of bf16
  return model % kElements == 0 && inner % kElements == 0;
}

}  // namespace

ExpertOrder ops::order_by_expert(const at::Tensor& experts, const at::Tensor& counts) {
  RECORD_USER_SCOPE("experts: permutation");
  const at::Tensor flat = experts.contiguous().flatten(), ends = counts.cumsum(0).to(at::kInt);
  if (flat.is_cpu()) return count_into_order(flat, ends);
  const at::Tensor pairs = std::get<1>(at::sort(flat, /*stable=*/true, 0, /*descending=*/false));
  const at::Tensor places = at::empty_like(pairs).scatter_(0, pairs, at::arange(pairs.numel(), pairs.options()));
  return {pairs, places, ends};
}

at::Tensor ops::expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down,
                           const at::Tensor& weights, const ExpertOrder& order, bool keep_less, Products products) {
  NORMA_CHECK(x.dim() == 2 && weights.size(0) == x.size(0) && order.pairs.numel() == weights.numel(), "[expert_mlp] x ",
              x.sizes(), ", weights ", weights.sizes(), ", pairs ", order.pairs.sizes());
  NORMA_CHECK(up_gate.size(2) == x.size(1) && down.size(1) == x.size(1) && up_gate.size(1) == 2 * down.size(2) &&
                  up_gate.size(0) == down.size(0) && order.ends.numel() == down.size(0),
              "[expert_mlp] x ", x.sizes(), ", up_gate ", up_gate.sizes(), ", down ", down.sizes());
  if (!takes_fused_path(true, "expert_mlp")) return reference_expert_mlp(x, up_gate, down, weights, order);
  const bool one_call = products == Products::automatic ? x.is_cuda() && x.scalar_type() == at::kBFloat16 &&
                                                              has_grouped_widths(x.size(1), down.size(2))
                                                        : products == Products::one_call;
  return ExpertMlp::apply(x, up_gate, down, weights, order, keep_less, one_call);
}

}  // namespace norma
