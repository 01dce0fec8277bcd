#include "hf_experts.h"

#include <algorithm>

namespace norma {
namespace {

std::int64_t positive(const HfFields& config, const char* key) {
  const std::int64_t value = config.need_integer(key);
  if (value == 0) config.fail(cat(key, " must be above 0"));
  return value;
}

void require_text(const HfFields& config, const char* key, const std::vector<std::string>& allowed) {
  const std::optional<std::string> value = config.text(key);
  if (!value || std::find(allowed.begin(), allowed.end(), *value) != allowed.end()) return;
  config.fail(cat(key, " '", *value, "' is not supported; allowed: ", join(allowed, ", ")));
}

void read_choice(const HfFields& config, ModelConfig& model) {
  model.mlp = MlpKind::moe;
  model.moe.top_k = positive(config, "num_experts_per_tok");
  model.moe.normalize_weights = config.flag("norm_topk_prob").value_or(false);
}

// Reads what both versions share. Returns false when all layers are dense.
bool read_deepseek_experts(const HfFields& config, ModelConfig& model) {
  const std::int64_t dense = config.integer("first_k_dense_replace").value_or(0);
  if (!config.integer("n_routed_experts") || dense >= model.num_layers) return false;
  if (config.integer("moe_layer_freq").value_or(1) != 1) config.fail("moe_layer_freq must be 1");
  read_choice(config, model);
  model.moe.num_experts = positive(config, "n_routed_experts");
  model.moe.expert_dim = positive(config, "moe_intermediate_size");
  model.moe.shared_experts = config.integer("n_shared_experts").value_or(0);
  model.moe.routed_scale = config.number("routed_scaling_factor").value_or(1.0);
  model.moe.router_precision = RouterPrecision::fp32;
  if (dense > 0) model.layers[dense == 1 ? "0" : cat("0-", dense - 1)].mlp = MlpKind::dense;
  return true;
}

void read_groups(const HfFields& config, GroupScore score, MoeConfig& moe) {
  moe.groups = config.integer("n_group").value_or(1);
  if (moe.groups <= 1) return;
  moe.top_groups = config.integer("topk_group").value_or(moe.groups);
  moe.group_score = score;
}

}  // namespace

void read_olmoe_experts(const HfFields& config, ModelConfig& model) {
  read_choice(config, model);
  model.moe.num_experts = positive(config, "num_experts");
}

// transformers 5.23 writes the number of experts under another name.
void read_qwen_experts(const HfFields& config, ModelConfig& model) {
  read_choice(config, model);
  model.moe.num_experts = positive(config, config.has("num_experts") ? "num_experts" : "num_local_experts");
  model.moe.expert_dim = positive(config, "moe_intermediate_size");
  if (config.integer("decoder_sparse_step").value_or(1) != 1) config.fail("decoder_sparse_step must be 1");
  if (config.has("mlp_only_layers") && !config.at("mlp_only_layers").empty()) {
    config.fail("mlp_only_layers must be empty");
  }
}

void read_deepseek_v2_experts(const HfFields& config, ModelConfig& model) {
  if (!read_deepseek_experts(config, model)) return;
  model.moe.normalize_weights = false;  // the class ignores norm_topk_prob
  require_text(config, "scoring_func", {"softmax"});
  require_text(config, "topk_method", {"greedy", "group_limited_greedy"});
  if (config.text("topk_method").value_or("greedy") != "greedy") read_groups(config, GroupScore::max, model.moe);
}

void read_deepseek_v3_experts(const HfFields& config, ModelConfig& model) {
  if (!read_deepseek_experts(config, model)) return;
  for (const char* key :
       {"n_group", "topk_group", "routed_scaling_factor"}) {  // their defaults would change the result
    if (!config.has(key)) config.fail(cat(key, " is missing, and no tensor shows it"));
  }
  model.moe.normalize_weights = config.flag("norm_topk_prob").value_or(true);
  require_text(config, "scoring_func", {"sigmoid"});
  require_text(config, "topk_method", {"noaux_tc"});
  model.moe.scoring = RouterScoring::sigmoid;
  model.moe.selection_bias = true;
  read_groups(config, GroupScore::top2, model.moe);
}

}  // namespace norma
