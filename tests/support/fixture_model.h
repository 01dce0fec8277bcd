// Builds a model from a parity or training fixture: plan, weights by formula, and parameters under OLMo's
// names.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/model/parameters.h"
#include "norma/model/transformer.h"
#include "norma/parallel/shard_engine.h"

#include "support/fixture_plan.h"

namespace norma::testing {

class FixtureModel {
 public:
  // Reads a dense fixture (moe null) and builds its model in float64.
  explicit FixtureModel(const std::filesystem::path& path);

  Json fixture;
  ModelConfig config;
  NormPlan plan;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;
  at::Tensor ids;                                // [B, T]
  std::map<std::string, at::Tensor> parameters;  // OLMo's name -> leaf
};

// OLMo's name of one of our parameters: "blocks.0.mlp.up_gate.weight" ->
// "transformer.blocks.0.ff_proj.weight".
std::string olmo_name(const std::string& name);

}  // namespace norma::testing
