#include "unit_call.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace norma {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct UnitCall : torch::CustomClassHolder {
  UnitCallHooks* hooks = nullptr;
  const Unit* unit = nullptr;
  UnitBody body;
  bool recompute = false;
  bool kept = false;   // whether the unit's weights stay gathered until its backward pass
  TensorList inputs;   // detached, leaves of the inner graph
  TensorList outputs;  // of the inner graph; with recompute empty until the backward pass

  // Whether gradients flow to anything that is trained.
  bool reaches_weights() const {
    const auto needs = [](const at::Tensor& input) { return input.requires_grad(); };
    return hooks->reads_trained(*unit) || std::any_of(inputs.begin(), inputs.end(), needs);
  }

  void run_body() {
    const c10::AutoGradMode with_gradients(true);
    for (at::Tensor& input : inputs) input = input.detach().requires_grad_(input.requires_grad());
    outputs = body(inputs);
  }
};

struct UnitFunction : torch::autograd::Function<UnitFunction> {
  static variable_list forward(AutogradContext* ctx, const c10::intrusive_ptr<UnitCall>& call,
                               const at::Tensor& /*anchor*/, at::TensorList inputs) {
    ctx->set_materialize_grads(false);
    ctx->saved_data["call"] = at::IValue::make_capsule(call);
    RECORD_USER_SCOPE("forward " + call->unit->name);
    call->hooks->before_forward(*call->unit);
    call->inputs = inputs.vec();
    TensorList results, constant;
    if (call->recompute) {
      results = call->body(call->inputs);  // autograd is off inside of forward
      if (!call->reaches_weights()) constant = results;
    } else {
      call->run_body();
      for (const at::Tensor& output : call->outputs) {
        results.push_back(output.detach());
        if (!output.requires_grad()) constant.push_back(results.back());
      }
    }
    ctx->mark_non_differentiable(constant);
    call->kept = call->hooks->after_forward(*call->unit, constant.size() < results.size());
    return results;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto call = c10::static_intrusive_pointer_cast<UnitCall>(ctx->saved_data["call"].toCapsule());
    RECORD_USER_SCOPE("backward " + call->unit->name);
    call->hooks->before_backward(*call->unit, call->recompute, call->kept);
    if (call->recompute) call->run_body();
    variable_list roots, root_grads;
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined() || !call->outputs[i].requires_grad()) continue;
      roots.push_back(call->outputs[i]);
      root_grads.push_back(grads[i]);
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_grads);
    call->outputs.clear();
    call->hooks->after_backward(*call->unit);
    variable_list results = {{}, {}};  // the call itself and the anchor have no gradients
    for (const at::Tensor& input : call->inputs) results.push_back(input.grad());
    call->inputs.clear();
    return results;
  }
};

TensorList call_unit(UnitCallHooks& hooks, const Unit& unit, const UnitBody& body, const TensorList& inputs,
                     bool recompute, const at::Tensor& anchor) {
  auto call = c10::make_intrusive<UnitCall>();
  call->hooks = &hooks;
  call->unit = &unit;
  call->body = body;
  call->recompute = recompute;
  return UnitFunction::apply(call, anchor, at::TensorList(inputs));
}

}  // namespace norma
