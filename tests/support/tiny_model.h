// A small model in float64 with drawn weights, for tests of placements.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/config/config.h"
#include "norma/model/transformer.h"
#include "norma/norm/plan.h"
#include "norma/parallel/shard_engine.h"

namespace norma::testing {

// The plan of a config, whose problems fail the test. The number of layers alone stands for grouped-query attention.
NormPlan plan_of(const NormConfig& config, const ModelConfig& model);
NormPlan plan_of(const NormConfig& config, std::int64_t num_layers);
// A preset with the given eps.
NormPlan preset_plan(const std::string& name, std::int64_t num_layers, double eps);

// Keeps the outputs of every unit.
class RecordingRunner : public PlainRunner {
 public:
  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override;
  std::vector<at::Tensor> outputs;  // first output of each unit, in order
};

struct TinyModel {
  RunConfig config;
  NormPlan plan;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;

  at::Tensor parameter(const std::string& name) const;          // the leaf
  at::Tensor logits(const at::Tensor& ids) const;               // [B, T, V], no gradients
  std::vector<at::Tensor> stream(const at::Tensor& ids) const;  // after the embedding and after every block
  void backward(const at::Tensor& ids) const;                   // fresh gradients of the mean loss
};

// d_model 32, 4 heads of 8, 2 key/value heads, mlp_dim 48, 64 embedding rows, sequences of 16, tied embeddings.
RunConfig tiny_config(std::int64_t num_layers);
// The same with latent attention of ranks 24 for queries (0: no query latent) and 16, with heads of 8 + 4 and 12.
RunConfig tiny_latent_config(std::int64_t num_layers, std::int64_t q_rank = 24);
TinyModel make_tiny_model(const RunConfig& config, const NormPlan& plan);
at::Tensor tiny_ids();  // [2, 16]

}  // namespace norma::testing
