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

// Returns {y, h}; a gradient that comes for h (it may start a skip connection) joins the product's.
struct PreparedLinearFunction : torch::autograd::Function<PreparedLinearFunction> {
  static variable_list forward(AutogradContext* ctx, const c10::intrusive_ptr<Preparation>& preparation,
                               const at::Tensor& weight, at::TensorList inputs) {
    ctx->set_materialize_grads(false);
    ctx->saved_data["preparation"] = at::IValue::make_capsule(preparation);
    variable_list saved = {weight};
    saved.insert(saved.end(), inputs.begin(), inputs.end());
    ctx->save_for_backward(saved);
    const at::Tensor h = preparation->function(inputs.vec());
    return {at::linear(h, weight), h};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto preparation =
        c10::static_intrusive_pointer_cast<Preparation>(ctx->saved_data["preparation"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& weight = saved[0];
    TensorList inputs;
    at::Tensor h;
    {
      const c10::AutoGradMode with_gradients(true);
      for (std::size_t i = 1; i < saved.size(); ++i) {
        inputs.push_back(saved[i].detach().requires_grad_(saved[i].requires_grad()));
      }
      h = preparation->function(inputs);
    }
    at::Tensor grad_h = grads[1], grad_weight;
    if (grads[0].defined()) {
      const at::Tensor grad = grads[0].reshape({-1, weight.size(0)});       // [N, out]
      grad_weight = grad.t().mm(h.detach().reshape({-1, weight.size(1)}));  // [out, in]
      const at::Tensor through = grad.mm(weight).view(h.sizes());           // [..., in]
      grad_h = grad_h.defined() ? grad_h + through : through;
    }
    if (grad_h.defined() && h.requires_grad()) torch::autograd::backward({h}, {grad_h});
    variable_list results = {{}, grad_weight};
    for (const at::Tensor& input : inputs) results.push_back(input.grad());
    return results;
  }
};

}  // namespace

PreparedLinear prepared_linear(const TensorFunction& prepare, const TensorList& inputs, const at::Tensor& weight,
                               bool recompute) {
  if (!recompute || !c10::GradMode::is_enabled()) {
    const at::Tensor h = prepare(inputs);
    return {at::linear(h, weight), h};
  }
  const variable_list results =
      PreparedLinearFunction::apply(c10::make_intrusive<Preparation>(prepare), weight, at::TensorList(inputs));
  return {results[0], results[1]};
}

}  // namespace norma
