// Every parameter of the model as plain data, computed from config and plan without building anything: exact
// counts for any size, the initial weights, weight decay and the storage layout all start here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "norma/base/layout.h"
#include "norma/config/config.h"
#include "norma/norm/plan.h"

namespace norma {

enum class ParameterRole {
  embedding,
  norm,
  qkv,
  q,
  q_down,
  q_up,
  kv_down,
  kv_up,
  attention_out,
  up_gate,
  down,
  router,
  experts_up_gate,
  experts_down,
  selection_bias,
  head
};

struct ParameterSpec {
  std::string name;                 // "blocks.3.attention.qkv.weight"; part of the format
  std::vector<std::int64_t> shape;  // matrices [out, in]; qkv rows q, k, v; kv_down rows latent, shared key; kv_up rows
                                    // of each head: key, value; up_gate rows up, gate; experts [E, out, in]
  ParameterRole role = ParameterRole::norm;
  std::int64_t layer = -1;  // block it belongs to, -1 outside of blocks
  NormSite norm{};          // of role norm: its kind, eps and initial gain

  std::int64_t numel() const;
};

// One unit of the model and its parameters, in the order that storage keeps (see Layout).
struct UnitSpec : UnitInfo {
  std::vector<ParameterSpec> parameters;
};

// The table, the blocks, then the head.
std::vector<UnitSpec> model_parameters(const ModelConfig& model, const NormPlan& plan);
std::int64_t num_parameters(const std::vector<UnitSpec>& units);

// Flat storage of the model: what decays follows optim.decay_norms, decay_biases and decay_embeddings; matrices always
// do. A selection bias is never trained; `freeze` (train.freeze) names others that are not, with '*' for any text.
Layout model_layout(const std::vector<UnitSpec>& units, const OptimConfig& optim,
                    const std::vector<std::string>& freeze = {});

// Names in train.freeze that no parameter has, and a list that leaves nothing to train.
Problems check_freeze(const std::vector<UnitSpec>& units, const std::vector<std::string>& freeze);

}  // namespace norma
