// The one seam between the model and everything that happens around it: the model hands each unit to a runner
// and never learns how its parameters are stored, gathered, recomputed or watched. Runners nest.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/layout.h"

namespace norma {

using TensorList = std::vector<at::Tensor>;

// A named leaf of the model. `tensor` shares its TensorImpl with the module's member, so a runner that gives
// it other storage (set_data) changes what the module sees.
struct UnitParameter {
  std::string name;
  at::Tensor tensor;
};

struct Unit : UnitInfo {
  int index = 0;                          // in the model's list of units, which is the order of the forward pass
  std::vector<UnitParameter> parameters;  // owned by this unit
};

// body(inputs) -> outputs. Except for parameters, every differentiable tensor that it reads must come through `inputs`;
// auxiliary losses are ordinary outputs.
using UnitBody = std::function<TensorList(const TensorList&)>;

class UnitRunner {
 public:
  virtual ~UnitRunner() = default;
  virtual TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) = 0;
  // Whether the unit's body should compute the cheap inputs of its matrix products again in the backward pass, instead
  // of keeping them.
  virtual bool recomputes_inputs(const Unit& unit) const = 0;
};

// This rank's shard of a unit's flat storage as the optimizer sees it: 1-D, in the order of its UnitLayout.
struct FlatUnit {
  at::Tensor master;             // [n] the weights that are updated
  at::Tensor gradient;           // [n] of the same type, accumulated over micro-batches
  std::int64_t decay_end = 0;    // weight decay applies to [0, decay_end)
  std::int64_t trained_end = 0;  // [trained_end, n) is frozen
};

// Runs the body as it is.
class PlainRunner : public UnitRunner {
 public:
  TensorList run(const Unit&, const UnitBody& body, const TensorList& inputs) override { return body(inputs); }
  bool recomputes_inputs(const Unit&) const override { return false; }
};

// Hands everything on to another runner, which outlives it. A runner that wraps another one derives from this class and
// overrides what it changes.
class ForwardingRunner : public UnitRunner {
 public:
  explicit ForwardingRunner(UnitRunner& inner) : inner_(inner) {}
  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override {
    return inner_.run(unit, body, inputs);
  }
  bool recomputes_inputs(const Unit& unit) const override { return inner_.recomputes_inputs(unit); }

 private:
  UnitRunner& inner_;
};

}  // namespace norma
