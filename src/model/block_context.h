// What passes between the transformer, its blocks and their branches besides the stream.
#pragma once

#include <optional>

#include "norma/kernels/ops.h"
#include "norma/model/decode_cache.h"

namespace norma {

// What the experts of a layer report about a forward pass, see Routing (kernels/experts.h).
struct RoutingTerms {
  at::Tensor balance, z;  // scalars, differentiable
  at::Tensor counts;      // [E] int64
  at::Tensor entropy;     // scalar
};

// What a forward pass knows besides the stream. Nothing in it is differentiable.
struct BlockContext {
  RopeTable rope;                    // angles of the pass's positions
  std::optional<at::Tensor> mask{};  // [B, 1, T, S], true where a query may attend; absent: plain causal attention
  DecodeCache* cache = nullptr;      // what earlier tokens left, where there is a cache
  bool recompute_inputs = false;     // see prepared_linear()
  std::optional<RoutingTerms>* routing = nullptr;  // where experts leave their report during the call
  std::optional<at::Tensor> wanted{};              // [N] flat indices into [B, T]: the output is needed there only
};

}  // namespace norma
