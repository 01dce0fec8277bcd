#include "norma/model/cost.h"

namespace norma {

ModelCost model_cost(const ModelConfig& model, const NormPlan& plan) {
  ModelCost cost;
  for (const UnitSpec& unit : model_parameters(model, plan)) {
    for (const ParameterSpec& p : unit.parameters) {
      if (p.role == ParameterRole::selection_bias) continue;  // a buffer: loaded, not trained
      cost.parameters += p.numel();
      if (p.role == ParameterRole::norm) cost.norm_parameters += p.numel();
      if (p.role == ParameterRole::embedding) cost.embedding_parameters += p.numel();
      const bool routed = p.role == ParameterRole::experts_up_gate || p.role == ParameterRole::experts_down;
      cost.active_parameters += routed ? p.numel() / model.moe.num_experts * model.moe.top_k : p.numel();
    }
  }
  cost.used_parameters = cost.active_parameters - (model.tie_embeddings ? 0 : cost.embedding_parameters);
  const double attention = static_cast<double>(model.num_layers) *
                           (static_cast<double>(model.q_width() + model.context_width()) / 2.0) *
                           static_cast<double>(model.sequence_length);
  cost.flops_causal = 6.0 * static_cast<double>(cost.used_parameters) + 6.0 * attention;
  cost.flops_full = 6.0 * static_cast<double>(cost.used_parameters) + 12.0 * attention;
  const double without_table = static_cast<double>(cost.active_parameters - cost.embedding_parameters);
  const double stream = static_cast<double>(model.num_layers) * static_cast<double>(model.d_model) *
                        static_cast<double>(model.sequence_length);
  cost.flops_olmo = 2.0 * without_table + 4.0 * static_cast<double>(cost.active_parameters) + 12.0 * stream;
  return cost;
}

}  // namespace norma
