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

// The plan of a config; problems fail the test. With the number of layers alone: of grouped-query attention.
NormPlan plan_of(const NormConfig& config, const ModelConfig& model);
NormPlan plan_of(const NormConfig& config, std::int64_t num_layers);
// A preset with the given eps.
NormPlan preset_plan(const std::string& name, std::int64_t num_layers, double eps);

// Keeps what every unit returned.
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

// d 32, 4 heads of 8, 2 kv heads, mlp 48, 64 rows, T 16, tied unless said otherwise in `config`.
RunConfig tiny_config(std::int64_t num_layers);
// The same with latent attention: ranks 24 (queries; 0: none) and 16, heads of 8 + 4 and 12.
RunConfig tiny_latent_config(std::int64_t num_layers, std::int64_t q_rank = 24);
TinyModel make_tiny_model(const RunConfig& config, const NormPlan& plan);
at::Tensor tiny_ids();  // [2, 16]

}  // namespace norma::testing
