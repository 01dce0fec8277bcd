#include "hf_experts.h"

#include "hf_sections.h"

namespace norma {
namespace {

constexpr IntegerRange kPositive{1, kCounts.most};

// A word that may be missing.
void check_choice(const JsonObject& config, const char* key, const JsonObject::Names& allowed) {
  if (config.has(key)) config.choice(key, allowed);
}

void read_choice(const JsonObject& config, ModelConfig& model) {
  model.mlp = MlpKind::moe;
  model.moe.top_k = config.integer("num_experts_per_tok", kPositive);
  model.moe.normalize_weights = config.find_flag("norm_topk_prob").value_or(false);
}

// Reads what both versions share. Returns false when all layers are dense.
bool read_deepseek_experts(const JsonObject& config, ModelConfig& model) {
  const std::int64_t dense = config.find_integer("first_k_dense_replace", kCounts).value_or(0);
  if (!config.find_integer("n_routed_experts", kCounts) || dense >= model.num_layers) return false;
  config.find_integer("moe_layer_freq", {1, 1});
  read_choice(config, model);
  model.moe.num_experts = config.integer("n_routed_experts", kPositive);
  model.moe.expert_dim = config.integer("moe_intermediate_size", kPositive);
  model.moe.shared_experts = config.find_integer("n_shared_experts", kCounts).value_or(0);
  model.moe.routed_scale = config.find_number("routed_scaling_factor").value_or(1.0);
  model.moe.router_precision = RouterPrecision::fp32;
  if (dense > 0) model.layers[dense == 1 ? "0" : cat("0-", dense - 1)].mlp = MlpKind::dense;
  return true;
}

void read_groups(const JsonObject& config, GroupScore score, MoeConfig& moe) {
  moe.groups = config.find_integer("n_group", kCounts).value_or(1);
  if (moe.groups <= 1) return;
  moe.top_groups = config.find_integer("topk_group", kCounts).value_or(moe.groups);
  moe.group_score = score;
}

}  // namespace

void read_olmoe_experts(const JsonObject& config, ModelConfig& model) {
  read_choice(config, model);
  model.moe.num_experts = config.integer("num_experts", kPositive);
}

// transformers 5.23 writes the number of experts under another name.
void read_qwen_experts(const JsonObject& config, ModelConfig& model) {
  read_choice(config, model);
  model.moe.num_experts = config.integer(config.has("num_experts") ? "num_experts" : "num_local_experts", kPositive);
  model.moe.expert_dim = config.integer("moe_intermediate_size", kPositive);
  config.find_integer("decoder_sparse_step", {1, 1});
  if (config.has("mlp_only_layers") && !config.list("mlp_only_layers").empty()) {
    config.fail_at("mlp_only_layers", "must be empty");
  }
}

void read_deepseek_v2_experts(const JsonObject& config, ModelConfig& model) {
  if (!read_deepseek_experts(config, model)) return;
  model.moe.normalize_weights = false;  // the class ignores norm_topk_prob
  check_choice(config, "scoring_func", {"softmax"});
  check_choice(config, "topk_method", {"greedy", "group_limited_greedy"});
  if (config.find_text("topk_method").value_or("greedy") != "greedy") read_groups(config, GroupScore::max, model.moe);
}

void read_deepseek_v3_experts(const JsonObject& config, ModelConfig& model) {
  if (!read_deepseek_experts(config, model)) return;
  for (const char* key :
       {"n_group", "topk_group", "routed_scaling_factor"}) {  // their defaults would change the result
    if (!config.has(key)) config.fail_at(key, "is missing, and no tensor shows it");
  }
  model.moe.normalize_weights = config.find_flag("norm_topk_prob").value_or(true);
  check_choice(config, "scoring_func", {"sigmoid"});
  check_choice(config, "topk_method", {"noaux_tc"});
  model.moe.scoring = RouterScoring::sigmoid;
  model.moe.selection_bias = true;
  read_groups(config, GroupScore::top2, model.moe);
}

}  // namespace norma
