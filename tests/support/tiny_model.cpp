#include "support/tiny_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/model/init.h"
#include "norma/model/parameters.h"

namespace norma::testing {

NormPlan plan_of(const NormConfig& config, const ModelConfig& model) {
  Problems problems;
  NormPlan plan = make_norm_plan(config, model, problems);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.key << ": " << problem.text;
  return plan;
}

NormPlan plan_of(const NormConfig& config, std::int64_t num_layers) {
  ModelConfig model;
  model.num_layers = num_layers;
  return plan_of(config, model);
}

NormPlan preset_plan(const std::string& name, std::int64_t num_layers, double eps) {
  NormConfig config;
  config.preset = name;
  config.eps = eps;
  config.mix_alpha = 0.5;
  return plan_of(config, num_layers);
}

TensorList RecordingRunner::run(const Unit&, const UnitBody& body, const TensorList& inputs) {
  TensorList out = body(inputs);
  outputs.push_back(out[0]);
  return out;
}

at::Tensor TinyModel::parameter(const std::string& name) const {
  for (const Unit& unit : model->units()) {
    for (const UnitParameter& parameter : unit.parameters) {
      if (parameter.name == name) return parameter.tensor;
    }
  }
  throw CheckFailure("no parameter " + name);
}

at::Tensor TinyModel::logits(const at::Tensor& ids) const {
  const c10::NoGradGuard no_grad;
  return model->logits(ids, *engine);
}

std::vector<at::Tensor> TinyModel::stream(const at::Tensor& ids) const {
  const c10::NoGradGuard no_grad;
  RecordingRunner runner;
  model->logits(ids, runner);
  runner.outputs.pop_back();  // the head's
  return runner.outputs;
}

void TinyModel::backward(const at::Tensor& ids) const {
  engine->clear_gradients();
  model->loss(ids, {1.0 / static_cast<double>(ids.numel()), 0.0, 64, 0.0}, *engine).loss.backward();
}

RunConfig tiny_config(std::int64_t num_layers) {
  RunConfig config;
  config.model.d_model = 32;
  config.model.num_layers = num_layers;
  config.model.num_heads = 4;
  config.model.num_kv_heads = 2;
  config.model.mlp_dim = 48;
  config.model.vocab_size = 61;
  config.model.embedding_rows = 64;
  config.model.sequence_length = 16;
  config.precision = Precision::fp64;
  return config;
}

RunConfig tiny_latent_config(std::int64_t num_layers, std::int64_t q_rank) {
  RunConfig config = tiny_config(num_layers);
  config.model.num_kv_heads.reset();
  config.model.attention.kind = AttentionKind::mla;
  if (q_rank > 0) config.model.attention.q_rank = q_rank;
  config.model.attention.kv_rank = 16;
  config.model.attention.nope_dim = 8;
  config.model.attention.rope_dim = 4;
  config.model.attention.value_dim = 12;
  return config;
}

TinyModel make_tiny_model(const RunConfig& config, const NormPlan& plan) {
  TinyModel tiny{config, plan, std::make_unique<Transformer>(config.model, plan), nullptr};
  const Layout layout = model_layout(model_parameters(config.model, plan), config.optim, config.train.freeze);
  tiny.engine = std::make_unique<ShardEngine>(tiny.model->units(), layout, config.precision, at::kCPU);
  tiny.engine->fill(InitialWeights(config, plan));
  return tiny;
}

at::Tensor tiny_ids() {
  const at::Tensor t = at::arange(16, at::kLong);
  return at::stack({(t * 5 + t * t * 3) % 61, (t * 11 + t * t * 7 + 4) % 61});
}

}  // namespace norma::testing
