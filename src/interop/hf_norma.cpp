// config.json of our own class, which holds every setting that changes a result.
#include "norma/config/names.h"
#include "norma/norm/plan.h"

#include "hf_experts.h"
#include "hf_sections.h"

namespace norma {
namespace {

void read_attention(const HfFields& config, ModelConfig& model) {
  const std::string kind = config.required("attention_kind", config.text("attention_kind"));
  if (kind == enum_name(AttentionKind::mla)) {
    read_latent_heads(config, kNormaType, model);
  } else if (kind == enum_name(AttentionKind::gqa)) {
    read_grouped_heads(config, kNormaType, model);
  } else {
    config.fail(cat("attention_kind must be gqa or mla; got '", kind, "'"));
  }
  const bool adjacent = config.flag("rope_interleave").value_or(false);  // the default of NormaConfig, with latents too
  model.attention.rope_pairs = adjacent ? RopePairs::adjacent : RopePairs::halves;
  model.clip_qkv = config.number("clip_qkv");
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
void read_mlp_kinds(const HfFields& config, ModelConfig& model) {
  if (!config.has("mlp_kinds") || !config.at("mlp_kinds").is_array()) config.fail("needs a list mlp_kinds");
  const Json& kinds = config.at("mlp_kinds");
  if (kinds.size() != static_cast<std::size_t>(model.num_layers)) {
    config.fail(cat("mlp_kinds must have num_hidden_layers = ", model.num_layers, " entries; got ", kinds.size()));
  }
  for (std::size_t l = 0; l < kinds.size(); ++l) {
    const auto kind = kinds[l].is_string() ? parse_enum<MlpKind>(kinds[l].get<std::string>()) : std::nullopt;
    if (!kind) config.fail(cat("mlp_kinds[", l, "] must be dense or moe; got ", kinds[l].dump().substr(0, 80)));
    if (l == 0) model.mlp = *kind;
    if (*kind != model.mlp) model.layers[cat(l)].mlp = *kind;
  }
}

template <class E>
void read_enum(const HfFields& config, const char* key, E& value) {
  const std::string name = config.text(key).value_or(std::string(enum_name(value)));
  const std::optional<E> parsed = parse_enum<E>(name);
  if (!parsed) config.fail(cat(key, " '", name, "' is not known; allowed: ", join(enum_names<E>(), ", ")));
  value = *parsed;
}

void read_own_experts(const HfFields& config, MoeConfig& moe) {
  moe.num_experts = config.need_integer("num_experts");
  moe.top_k = config.need_integer("num_experts_per_tok");
  moe.expert_dim = config.need_integer("moe_intermediate_size");
  moe.shared_experts = config.integer("n_shared_experts").value_or(0);
  read_enum(config, "scoring_func", moe.scoring);
  moe.normalize_weights = config.flag("norm_topk_prob").value_or(false);
  moe.routed_scale = config.number("routed_scaling_factor").value_or(1.0);
  moe.groups = config.integer("n_group").value_or(1);
  if (moe.groups > 1) moe.top_groups = config.integer("topk_group");
  read_enum(config, "group_score", moe.group_score);
  moe.selection_bias = config.flag("selection_bias").value_or(false);
  const bool in_fp32 = config.flag("router_in_fp32").value_or(false);
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

void read_norma_model(const HfFields& config, HfModel& result) {
  ModelConfig& model = result.model;
  const std::int64_t rows = model.vocab_size;
  model.vocab_size = config.integer("unpadded_vocab_size").value_or(rows);
  if (model.vocab_size != rows) model.embedding_rows = rows;
  read_attention(config, model);
  read_rope(config, /*may_scale=*/true, model);
  read_mlp_kinds(config, model);
  // A dense folder may have keys of experts too: transformers saves every attribute of the config with its default.
  if (!model.moe_layers().empty()) read_own_experts(config, model.moe);
  result.plan = read_norm_plan(config.required("norm_plan", config.section("norm_plan")), model.num_layers);
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
