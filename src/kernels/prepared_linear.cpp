#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/kernels/ops.h"

namespace norma {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Preparation : torch::CustomClassHolder {
  explicit Preparation(TensorFunction given) : function(std::move(given)) {}
  TensorFunction function;
};

// Returns {h, y...}. A gradient that arrives for h itself (h may start a skip connection) is added to those from the
// products, of which the last comes first, as autograd adds them up. Saved are the weights, then the inputs.
struct PreparedLinearFunction : torch::autograd::Function<PreparedLinearFunction> {
  static variable_list forward(AutogradContext* ctx, const c10::intrusive_ptr<Preparation>& preparation,
                               at::TensorList weights, at::TensorList inputs) {
    ctx->set_materialize_grads(false);
    ctx->saved_data["preparation"] = at::IValue::make_capsule(preparation);
    ctx->saved_data["weights"] = static_cast<std::int64_t>(weights.size());
    variable_list saved = weights.vec();
    saved.insert(saved.end(), inputs.begin(), inputs.end());
    ctx->save_for_backward(saved);
    const at::Tensor h = preparation->function(inputs.vec());
    variable_list results = {h};
    for (const at::Tensor& weight : weights) results.push_back(ops::linear(h, weight));
    return results;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto preparation =
        c10::static_intrusive_pointer_cast<Preparation>(ctx->saved_data["preparation"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    const auto count = static_cast<std::size_t>(ctx->saved_data["weights"].toInt());
    TensorList inputs;
    at::Tensor h;
    {
      const c10::AutoGradMode with_gradients(true);
      for (std::size_t i = count; i < saved.size(); ++i) {
        inputs.push_back(saved[i].detach().requires_grad_(saved[i].requires_grad()));
      }
      h = preparation->function(inputs);
    }
    at::Tensor grad_h = grads[0];
    variable_list results(1 + count);
    for (std::size_t i = count; i-- > 0;) {
      const at::Tensor &weight = saved[i], &grad_y = grads[1 + i];
      if (!grad_y.defined()) continue;
      results[1 + i] = ops::linear_weight_gradient(grad_y, h.detach());       // [out, in]
      const at::Tensor through = ops::linear_input_gradient(grad_y, weight);  // [..., in]
      grad_h = grad_h.defined() ? grad_h + through : through;
    }
    if (grad_h.defined() && h.requires_grad()) torch::autograd::backward({h}, {grad_h});
    for (const at::Tensor& input : inputs) results.push_back(input.grad());
    return results;
  }
};

}  // namespace

PreparedLinears ops::prepared_linears(const TensorFunction& prepare, const TensorList& inputs,
                                      const TensorList& weights, bool recompute) {
  PreparedLinears result;
  if (!recompute || !c10::GradMode::is_enabled()) {
    result.h = prepare(inputs);
    for (const at::Tensor& weight : weights) result.y.push_back(ops::linear(result.h, weight));
    return result;
  }
  const variable_list out = PreparedLinearFunction::apply(c10::make_intrusive<Preparation>(prepare),
                                                          at::TensorList(weights), at::TensorList(inputs));
  result.h = out[0];
  result.y.assign(out.begin() + 1, out.end());
  return result;
}

PreparedLinear ops::prepared_linear(const TensorFunction& prepare, const TensorList& inputs, const at::Tensor& weight,
                                    bool recompute) {
  const PreparedLinears all = prepared_linears(prepare, inputs, {weight}, recompute);
  return {all.y[0], all.h};
}

}  // namespace norma
