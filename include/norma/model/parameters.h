// The one description of the model's parameters, as plain data computed from config and plan: names, shapes, roles, and
// the units they belong to. The modules, exact counts, initial weights, weight decay, file formats and the storage
// layout all start here.
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
  std::vector<std::int64_t> shape;  // matrices [out, in], experts [E, out, in]. Order of the rows: qkv q, k, v; kv_down
                                    // latent, shared key; kv_up key, value of each head; up_gate up, gate
  ParameterRole role = ParameterRole::norm;
  std::int64_t layer = -1;  // index of its block, -1 outside of blocks
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

// Flat storage of the model. Matrices always decay; for norms and the embedding optim.decay_norms and
// optim.decay_embeddings decide. A selection bias is never trained; `freeze` (train.freeze) names others that are not,
// with '*' for any text.
Layout model_layout(const std::vector<UnitSpec>& units, const OptimConfig& optim,
                    const std::vector<std::string>& freeze = {});

// Reports names in train.freeze that no parameter has, and a list that leaves nothing to train.
Problems check_freeze(const std::vector<UnitSpec>& units, const std::vector<std::string>& freeze);

}  // namespace norma
