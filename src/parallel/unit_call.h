// One call of a unit as one node of the autograd graph: the body runs on an inner graph of its own, so that "right
// before" and "right after" its backward pass are ordinary lines of code.
#pragma once

#include "norma/parallel/shard_engine.h"

namespace norma {

// Runs the body under autograd through `engine`. With `recompute` the forward pass keeps the inputs only, and the body
// runs once more in the backward pass; it must be a pure function of its inputs and its unit's parameters.
TensorList call_unit(ShardEngine& engine, const Unit& unit, const UnitBody& body, const TensorList& inputs,
                     bool recompute, const at::Tensor& anchor);

}  // namespace norma
