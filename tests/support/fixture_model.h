// Builds a model from a parity or training fixture: its plan, its weights, which follow a formula, and its parameters
// under OLMo's names.
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

// A parameter of OLMo is a leaf of ours or a part of one. OLMo keeps experts as w1 (gate), v1 (up) and w2 (down,
// not transposed), all [E * F, D].
struct FixtureParameter {
  enum class Part { whole, up, gate, down };
  at::Tensor leaf;
  Part part = Part::whole;

  at::Tensor value() const { return as_fixture(leaf).detach().clone(); }
  at::Tensor grad() const { return as_fixture(leaf.grad()).clone(); }
  void set(const at::Tensor& flat) const;  // in the fixture's order of elements

 private:
  at::Tensor view(const at::Tensor& of_leaf) const;
  at::Tensor as_fixture(const at::Tensor& of_leaf) const;
};

class FixtureModel {
 public:
  // Reads a fixture and builds its model in float64.
  explicit FixtureModel(const std::filesystem::path& path);
  // Builds another model with weights by the fixtures' formula.
  FixtureModel(const ModelConfig& model, const NormPlan& norms, Precision precision);

  Json fixture;
  ModelConfig config;
  NormPlan plan;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;
  at::Tensor ids;                                      // [B, T]
  std::map<std::string, FixtureParameter> parameters;  // by OLMo's name

 private:
  void build(Precision precision, const OptimConfig& optim);
  void set_weights(const Json& rule);
};

}  // namespace norma::testing
