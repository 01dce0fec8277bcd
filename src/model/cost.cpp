#include "norma/model/cost.h"

#include <algorithm>

namespace norma {
namespace {

std::int64_t bytes_of(Precision precision, bool compute) {
  if (precision == Precision::fp64) return 8;
  return compute && precision == Precision::bf16 ? 2 : 4;
}

std::int64_t count_present(std::initializer_list<const NormSite*> sites) {
  return std::count_if(sites.begin(), sites.end(), [](const NormSite* site) { return site->present(); });
}

// Elements per token that the reference path keeps for the backward pass of one block.
std::int64_t kept_per_token(const ModelConfig& m, const LayerPolicy& layer) {
  const ResidualWiring &a = layer.attention, &f = layer.mlp;
  const InnerNorms& inner = layer.inner;
  std::int64_t kept = 2 * m.d_model;       // inputs of qkv and of up|gate
  kept += m.q_width() + 2 * m.kv_width();  // q, k, v as attention reads them
  kept += 2 * m.q_width();                 // attention's output, and as the output matrix reads it
  kept += 3 * m.mlp_dim;                   // up|gate, and the input of down
  kept += m.d_model * count_present({&a.in, &a.out, &a.sum, &f.in, &f.out, &f.sum});
  kept += inner.q.present() ? m.q_width() : 0;  // a norm keeps its input
  kept += (inner.k.present() ? m.kv_width() : 0) + (inner.v.present() ? m.kv_width() : 0);
  kept += inner.context.present() ? m.q_width() : 0;
  return kept;
}

// Bytes that the head and its loss need at their peak, beside what the blocks keep: logits of a chunk in the wide type
// twice, or their gradient with the head's, which adds up in the wide type (linear_cross_entropy).
std::int64_t head_peak(const RunConfig& config, std::int64_t tokens) {
  const std::int64_t wide = bytes_of(config.precision, false), compute = bytes_of(config.precision, true);
  const std::int64_t rows = config.model.rows(), chunk = std::min(config.train.loss_chunk, tokens);
  const std::int64_t head = rows * config.model.d_model, sum = head * wide;
  const std::int64_t at_softmax = 2 * chunk * rows * wide + (tokens > chunk ? sum : 0);
  return std::max(at_softmax, chunk * rows * compute + sum);
}

// Bytes that the backward pass of one block needs beside what is kept: gradients around the MLP.
std::int64_t block_peak(const RunConfig& config, std::int64_t tokens) {
  const ModelConfig& m = config.model;
  return tokens * (2 * m.d_model + 5 * m.mlp_dim) * bytes_of(config.precision, true);
}

}  // namespace

ModelCost model_cost(const ModelConfig& model, const NormPlan& plan) {
  ModelCost cost;
  for (const UnitSpec& unit : model_parameters(model, plan)) {
    for (const ParameterSpec& p : unit.parameters) {
      cost.parameters += p.numel();
      if (p.role == ParameterRole::norm) cost.norm_parameters += p.numel();
      if (p.role == ParameterRole::embedding) cost.embedding_parameters += p.numel();
    }
  }
  cost.used_parameters = cost.parameters - (model.tie_embeddings ? 0 : cost.embedding_parameters);
  const double attention = static_cast<double>(model.num_layers) * static_cast<double>(model.q_width()) *
                           static_cast<double>(model.sequence_length);
  cost.flops_causal = 6.0 * static_cast<double>(cost.used_parameters) + 6.0 * attention;
  cost.flops_full = 6.0 * static_cast<double>(cost.used_parameters) + 12.0 * attention;
  const double without_table = static_cast<double>(cost.parameters - cost.embedding_parameters);
  const double stream = static_cast<double>(model.num_layers) * static_cast<double>(model.d_model) *
                        static_cast<double>(model.sequence_length);
  cost.flops_olmo = 2.0 * without_table + 4.0 * static_cast<double>(cost.parameters) + 12.0 * stream;
  return cost;
}

MemoryEstimate memory_estimate(const RunConfig& config, const NormPlan& plan, std::int64_t micro_batch) {
  const std::int64_t parameters = model_cost(config.model, plan).parameters;
  const std::int64_t master = bytes_of(config.precision, false), compute = bytes_of(config.precision, true);
  MemoryEstimate memory;
  memory.weights = parameters * (master == compute ? master : master + compute);
  memory.gradients = parameters * master;
  memory.optimizer = 2 * parameters * master;
  const std::int64_t tokens = micro_batch * config.model.sequence_length;
  std::int64_t per_token = config.model.d_model;
  for (const LayerPolicy& layer : plan.layers) per_token += kept_per_token(config.model, layer);
  memory.activations = tokens * per_token * compute + std::max(head_peak(config, tokens), block_peak(config, tokens));
  return memory;
}

}  // namespace norma
