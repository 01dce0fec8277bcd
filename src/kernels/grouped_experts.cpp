#include "grouped_experts.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "grouped_products.h"
#include "grouped_steps.h"

namespace norma {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Keeps x by expert (or x alone) and the projection; the activation is computed again in the backward pass. The weight
// of a result needs no product of its own: with g = d loss / d y_t, d weight = (g down) . activation.
struct ExpertFunction : torch::autograd::Function<ExpertFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& up_gate,
                            const at::Tensor& down, const at::Tensor& weights, const ExpertOrder& given, bool keep_less,
                            bool one_call) {
    const ExpertOrder order = one_call ? given : with_round_sizes(given, x);
    const GroupedProducts products(order.ends, one_call);
    const at::Tensor rows = spread_rows(x, order);                             // [M, D]
    const at::Tensor projected = products.forward(rows, up_gate);              // [M, 2F]
    const at::Tensor results = products.forward(activation(projected), down);  // [M, D]
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
    const GroupedProducts products(order.ends, ctx->saved_data["one_call"].toBool());
    const at::Tensor rows = ctx->saved_data["keep_less"].toBool() ? spread_rows(saved[0], order) : saved[0];
    const at::Tensor of_results = spread_rows(grads[0], order);                  // [M, D], not yet weighted
    const at::Tensor of_activation = products.input_gradient(of_results, down);  // [M, F], likewise
    const at::Tensor row_weights = spread_weights(weights, order);               // [M]
    const ActivationGradients inner = activation_backward(of_activation, projected, row_weights);
    const at::Tensor of_rows = products.input_gradient(inner.up_gate, up_gate);  // [M, D]
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

// at::_grouped_mm wants rows of whole 16 bytes.
bool has_grouped_widths(std::int64_t model, std::int64_t inner) {
  constexpr std::int64_t kElements = 8;  // of bf16
  return model % kElements == 0 && inner % kElements == 0;
}

}  // namespace

Support GroupedExperts::supports(const at::Tensor& x, const at::Tensor& /*up_gate*/, const at::Tensor& /*down*/,
                                 const at::Tensor& /*weights*/, const ExpertOrder& /*order*/, bool /*keep_less*/,
                                 Products products) {
  const bool possible = products != Products::one_call || x.scalar_type() != at::kDouble;
  return possible ? Support{} : Support{"at::_grouped_mm takes no float64"};
}

at::Tensor GroupedExperts::run(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down,
                               const at::Tensor& weights, const ExpertOrder& order, bool keep_less, Products products) {
  const bool one_call = products == Products::automatic ? x.is_cuda() && x.scalar_type() == at::kBFloat16 &&
                                                              has_grouped_widths(x.size(1), down.size(2))
                                                        : products == Products::one_call;
  return ExpertFunction::apply(x, up_gate, down, weights, order, keep_less, one_call);
}

}  // namespace norma
