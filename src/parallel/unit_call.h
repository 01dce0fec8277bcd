// One call of a unit as one node of the autograd graph. The body runs on an inner graph, so that what happens right
// before and right after its backward pass are ordinary lines of code.
#pragma once

#include "norma/base/unit.h"

namespace norma {

// What happens around the passes of unit calls.
class UnitCallHooks {
 public:
  virtual ~UnitCallHooks() = default;
  virtual bool reads_trained(const Unit& unit) const = 0;  // whether it reads a parameter that is not frozen
  virtual void before_forward(const Unit& unit) = 0;
  // `differentiable` is false where everything up to the outputs is frozen: no gradient reaches them, and there is no
  // backward pass. Returns whether the weights stay gathered for the backward pass.
  virtual bool after_forward(const Unit& unit, bool differentiable) = 0;
  virtual void before_backward(const Unit& unit, bool recompute, bool kept) = 0;
  virtual void after_backward(const Unit& unit) = 0;
};

// Runs the body under autograd. With `recompute` the forward pass keeps only the inputs, and the body runs again in the
// backward pass; it must be a pure function of its inputs and its unit's parameters. Hooks and unit outlive the
// backward pass.
TensorList call_unit(UnitCallHooks& hooks, const Unit& unit, const UnitBody& body, const TensorList& inputs,
                     bool recompute, const at::Tensor& anchor);

}  // namespace norma
