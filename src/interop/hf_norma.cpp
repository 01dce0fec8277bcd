// config.json of our own class, which holds every setting that changes a result.
#include "norma/norm/plan.h"

#include "hf_experts.h"
#include "hf_sections.h"

namespace norma {
namespace {

void read_attention(const JsonObject& config, ModelConfig& model) {
  const bool latent = read_enum<AttentionKind>(config, "attention_kind") == AttentionKind::mla;
  latent ? read_latent_heads(config, kNormaType, model) : read_grouped_heads(config, kNormaType, model);
  const bool adjacent =
      config.find_flag("rope_interleave").value_or(false);  // the default of NormaConfig, with latents too
  model.attention.rope_pairs = adjacent ? RopePairs::adjacent : RopePairs::halves;
  model.clip_qkv = config.find_number("clip_qkv");
}

void write_attention(const ModelConfig& model, Json& config) {
  const AttentionConfig& attention = model.attention;
  config["attention_kind"] = enum_name(attention.kind);
  config["rope_interleave"] = attention.rope_pairs == RopePairs::adjacent;
  if (!model.is_latent()) {
    config["head_dim"] = model.head_width();
    config["clip_qkv"] = model.clip_qkv ? Json(*model.clip_qkv) : Json(nullptr);
    return;
  }
  config["q_lora_rank"] = attention.q_rank ? Json(*attention.q_rank) : Json(nullptr);
  config["kv_lora_rank"] = model.kv_rank();
  config["qk_nope_head_dim"] = model.nope_dim();
  config["qk_rope_head_dim"] = model.rope_dim();
  config["v_head_dim"] = model.value_width();
}

// Turns mlp_kinds, one word per layer, into model.mlp and the layers that differ from it.
void read_mlp_kinds(const JsonObject& config, ModelConfig& model) {
  const std::vector<std::string> kinds = config.texts("mlp_kinds");
  if (kinds.size() != static_cast<std::size_t>(model.num_layers)) {
    config.fail_at("mlp_kinds", "must have num_hidden_layers = ", model.num_layers, " entries; got ", kinds.size());
  }
  for (std::size_t l = 0; l < kinds.size(); ++l) {
    const auto kind = parse_enum<MlpKind>(kinds[l]);
    if (!kind) config.fail_at("mlp_kinds", "must hold dense or moe for each layer; layer ", l, " has '", kinds[l], "'");
    if (l == 0) model.mlp = *kind;
    if (kind != model.mlp) model.layers[cat(l)].mlp = kind;
  }
}

void read_own_experts(const JsonObject& config, MoeConfig& moe) {
  moe.num_experts = config.integer("num_experts", kCounts);
  moe.top_k = config.integer("num_experts_per_tok", kCounts);
  moe.expert_dim = config.integer("moe_intermediate_size", kCounts);
  moe.shared_experts = config.find_integer("n_shared_experts", kCounts).value_or(0);
  if (config.has("scoring_func")) moe.scoring = read_enum<RouterScoring>(config, "scoring_func");
  moe.normalize_weights = config.find_flag("norm_topk_prob").value_or(false);
  moe.routed_scale = config.find_number("routed_scaling_factor").value_or(1.0);
  moe.groups = config.find_integer("n_group", kCounts).value_or(1);
  if (moe.groups > 1) moe.top_groups = config.find_integer("topk_group", kCounts);
  if (config.has("group_score")) moe.group_score = read_enum<GroupScore>(config, "group_score");
  moe.selection_bias = config.find_flag("selection_bias").value_or(false);
  const bool in_fp32 = config.find_flag("router_in_fp32").value_or(false);
  moe.router_precision = in_fp32 ? RouterPrecision::fp32 : RouterPrecision::automatic;
}

void write_own_experts(const ModelConfig& model, Json& config) {
  const MoeConfig& moe = model.moe;
  config["num_experts"] = moe.num_experts;
  config["num_experts_per_tok"] = moe.top_k;
  config["moe_intermediate_size"] = model.expert_width();
  config["n_shared_experts"] = moe.shared_experts;
  config["scoring_func"] = enum_name(moe.scoring);
  config["norm_topk_prob"] = moe.normalize_weights;
  config["routed_scaling_factor"] = moe.routed_scale;
  config["n_group"] = moe.groups;
  config["topk_group"] = model.moe_top_groups();
  config["group_score"] = enum_name(moe.group_score);
  config["selection_bias"] = moe.selection_bias;
  config["router_in_fp32"] = moe.router_precision == RouterPrecision::fp32;
}

}  // namespace

void read_norma_model(const JsonObject& config, HfModel& result) {
  ModelConfig& model = result.model;
  const std::int64_t rows = model.vocab_size;
  model.vocab_size = config.find_integer("unpadded_vocab_size", kCounts).value_or(rows);
  if (model.vocab_size != rows) model.embedding_rows = rows;
  read_attention(config, model);
  read_rope(config, /*may_scale=*/true, model);
  read_mlp_kinds(config, model);
  // A dense folder may have keys of experts too: transformers saves every attribute of the config with its default.
  if (!model.moe_layers().empty()) read_own_experts(config, model.moe);
  result.plan = read_norm_plan(config.object("norm_plan"), model.num_layers);
  result.norm = norm_config_of(result.plan, model);
}

void write_norma_model(const ModelConfig& model, const NormPlan& plan, Json& config) {
  config["unpadded_vocab_size"] = model.vocab_size;
  write_attention(model, config);
  Json kinds = Json::array();
  for (std::int64_t l = 0; l < model.num_layers; ++l) kinds.push_back(enum_name(model.mlp_kind(l)));
  config["mlp_kinds"] = std::move(kinds);
  if (!model.moe_layers().empty()) write_own_experts(model, config);
  config["norm_plan"] = write_norm_plan(plan);
}

}  // namespace norma
