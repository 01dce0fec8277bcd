// Reads the model section of OLMo's config.yaml. Defaults are those of OLMo's olmo/config.py and of HybridNorm's and
// OLMoE's forks of it.
#include <algorithm>

#include "norma/interop/olmo_folder.h"
#include "norma/norm/plan.h"

#include "hf_sections.h"
#include "olmo_layers.h"

namespace norma {
namespace {

// Keys that do not change what a trained model computes.
const std::vector<std::string>& neutral_keys() {
  static const std::vector<std::string> kKeys = {
      "attention_dropout", "residual_dropout",   "embedding_dropout", "flash_attention", "eos_token_id",
      "pad_token_id",      "init_device",        "init_fn",           "init_std",        "init_cutoff_factor",
      "scale_emb_init",    "emb_init_std",       "precision",         "moe_mlp_impl",    "moe_log_expert_assignment",
      "moe_lbl_in_fp32",   "moe_capacity_factor"};
  return kKeys;
}

const std::vector<std::string>& read_keys() {
  static const std::vector<std::string> kKeys = {"d_model",
                                                 "n_heads",
                                                 "n_kv_heads",
                                                 "multi_query_attention",
                                                 "n_layers",
                                                 "mlp_ratio",
                                                 "mlp_hidden_size",
                                                 "vocab_size",
                                                 "embedding_size",
                                                 "weight_tying",
                                                 "max_sequence_length",
                                                 "rope_theta",
                                                 "clip_qkv",
                                                 "block_type",
                                                 "layer_norm_type",
                                                 "layer_norm_eps",
                                                 "norm_after",
                                                 "attention_layer_norm",
                                                 "embedding_layer_norm",
                                                 "moe_num_experts",
                                                 "moe_top_k",
                                                 "moe_loss_weight",
                                                 "moe_zloss_weight"};
  return kKeys;
}

// Keys that only HybridNorm's fork has.
const std::vector<std::string>& hybrid_keys() {
  static const std::vector<std::string> kKeys = {"use_query_norm",
                                                 "use_key_norm",
                                                 "use_value_norm",
                                                 "use_context_norm",
                                                 "attn_norm",
                                                 "ffn_norm",
                                                 "attn_residual_after_norm",
                                                 "ffn_residual_after_norm",
                                                 "norm_pos_special_config"};
  return kKeys;
}

// Switches with only one supported value. One that is absent has OLMo's default.
struct FixedFlag {
  const char* key;
  bool supported, fallback;
};
constexpr FixedFlag kFixedFlags[] = {{"alibi", false, false},
                                     {"rope", true, false},
                                     {"rope_full_precision", true, true},
                                     {"include_bias", false, true},
                                     {"bias_for_layer_norm", false, false},
                                     {"layer_norm_with_affine", true, true},
                                     {"attention_layer_norm_with_affine", true, true},
                                     {"scale_logits", false, false},
                                     {"moe_shared_expert", false, false},
                                     {"moe_dropless", true, true}};

void check_keys(const JsonObject& config) {
  std::vector<std::string> known = read_keys();
  known.insert(known.end(), hybrid_keys().begin(), hybrid_keys().end());
  known.insert(known.end(), neutral_keys().begin(), neutral_keys().end());
  for (const FixedFlag& flag : kFixedFlags) known.emplace_back(flag.key);
  known.insert(known.end(), {"activation_type", "block_group_size"});
  config.refuse_unknown(known);
  for (const FixedFlag& flag : kFixedFlags) {
    if (config.find_flag(flag.key).value_or(flag.fallback) == flag.supported) continue;
    config.fail_at(flag.key, config.has(flag.key) ? "" : "is not given, so it ", "is ",
                   flag.supported ? "false" : "true", ", which is not supported");
  }
  if (config.has("activation_type")) config.choice("activation_type", {"swiglu"});
  config.find_integer("block_group_size", {1, 1});
}

std::int64_t mlp_width(const JsonObject& config, std::int64_t d_model) {
  constexpr std::int64_t kMostRatio = 1024;
  const std::int64_t ratio = config.find_integer("mlp_ratio", {0, kMostRatio}).value_or(4);
  const std::int64_t both = config.find_integer("mlp_hidden_size", kCounts).value_or(ratio * d_model);
  if (both == 0 || both % 2 != 0) config.fail_at("mlp_hidden_size", "must be even and above 0; got ", both);
  return both / 2;  // OLMo counts both halves of the gated product
}

void read_heads(const JsonObject& config, ModelConfig& model) {
  model.num_heads = config.integer("n_heads", kCounts);
  const bool single = config.find_flag("multi_query_attention").value_or(false);
  model.num_kv_heads = config.find_integer("n_kv_heads", kCounts).value_or(single ? 1 : model.num_heads);
  if (single && model.num_kv_heads != 1) config.fail_at("multi_query_attention", "contradicts n_kv_heads");
}

void read_experts(const JsonObject& config, ModelConfig& model) {
  if (!config.has("block_type") || config.choice("block_type", {"sequential", "moe"}) == "sequential") return;
  model.mlp = MlpKind::moe;
  model.moe.num_experts = config.find_integer("moe_num_experts", kCounts).value_or(8);
  model.moe.top_k = config.find_integer("moe_top_k", kCounts).value_or(2);
  model.moe.balance_loss = config.find_number("moe_loss_weight").value_or(0.1);
  model.moe.z_loss = config.find_number("moe_zloss_weight").value_or(0.0);
}

ModelConfig read_model(const JsonObject& config) {
  ModelConfig model;
  model.d_model = config.integer("d_model", kCounts);
  model.num_layers = config.integer("n_layers", kCounts);
  read_heads(config, model);
  model.mlp_dim = mlp_width(config, model.d_model);
  model.vocab_size = config.integer("vocab_size", kCounts);
  model.embedding_rows = config.find_integer("embedding_size", kCounts).value_or(model.vocab_size);
  model.tie_embeddings = config.find_flag("weight_tying").value_or(true);
  model.sequence_length = config.find_integer("max_sequence_length", kCounts).value_or(1024);
  model.rope_theta = config.find_number("rope_theta").value_or(10000.0);
  model.clip_qkv = config.find_number("clip_qkv");
  read_experts(config, model);
  return model;
}

NormSite site_of(const JsonObject& config) {
  const bool is_rms = config.has("layer_norm_type") && config.choice("layer_norm_type", {"rms", "default"}) == "rms";
  return {is_rms ? NormKind::rms : NormKind::layer, config.find_number("layer_norm_eps").value_or(1e-5), 1.0};
}

// OLMo's own placements: norms on inputs or on outputs, and norms on whole q and k or not.
LayerPolicy olmo_layer(const JsonObject& config, const NormSite& norm) {
  LayerPolicy layer;
  const bool after = config.find_flag("norm_after").value_or(false);
  for (ResidualWiring* wiring : {&layer.attention, &layer.mlp}) (after ? wiring->out : wiring->in) = norm;
  if (config.find_flag("attention_layer_norm").value_or(false)) {
    layer.inner.q = layer.inner.k = HeadSite{norm, Granularity::whole};
  }
  return layer;
}

// HybridNorm's switches of a layer.
struct HybridFlags {
  bool attn_norm = true, ffn_norm = true, attn_residual = false, ffn_residual = false;
};

ResidualWiring hybrid_wiring(bool has_norm, bool residual_after_norm, const NormSite& norm) {
  ResidualWiring wiring;
  if (has_norm) wiring.in = norm;
  if (has_norm && residual_after_norm) wiring.skip = SkipSource::normed;  // without a norm, normed would be the stream
  return wiring;
}

HybridFlags with_changes(HybridFlags flags, const std::map<std::string, bool>& changes, const JsonObject& config) {
  for (const auto& [name, value] : changes) {
    bool* const flag = name == "attn_norm"       ? &flags.attn_norm
                       : name == "ffn_norm"      ? &flags.ffn_norm
                       : name == "attn_residual" ? &flags.attn_residual
                       : name == "ffn_residual"  ? &flags.ffn_residual
                                                 : nullptr;
    if (flag == nullptr) {
      config.fail_at("norm_pos_special_config", "names '", name, "', which is not known",
                     did_you_mean(name, {"attn_norm", "ffn_norm", "attn_residual", "ffn_residual"}));
    }
    *flag = value;
  }
  return flags;
}

std::vector<LayerPolicy> hybrid_layers(const JsonObject& config, const NormSite& norm, std::int64_t num_layers) {
  for (const char* key : {"norm_after", "attention_layer_norm"}) {
    if (config.find_flag(key).value_or(false)) config.fail_at(key, "has no meaning beside HybridNorm's own keys");
  }
  const auto flag = [&](const char* key, bool fallback) { return config.find_flag(key).value_or(fallback); };
  const HybridFlags flags{flag("attn_norm", true), flag("ffn_norm", true), flag("attn_residual_after_norm", false),
                          flag("ffn_residual_after_norm", false)};
  const auto inner = [&](const char* key) {
    return flag(key, false) ? HeadSite{norm, Granularity::per_head} : HeadSite{};
  };
  OlmoLayerFlags special =
      parse_layer_flags(config.find_text("norm_pos_special_config").value_or(""), "norm_pos_special_config");
  if (!special.empty() && special.rbegin()->first >= num_layers) {
    config.fail_at("norm_pos_special_config", "names layer ", special.rbegin()->first, " of ", num_layers);
  }
  std::vector<LayerPolicy> layers;
  for (std::int64_t l = 0; l < num_layers; ++l) {
    const HybridFlags own = with_changes(flags, special[l], config);
    layers.push_back({hybrid_wiring(own.attn_norm, own.attn_residual, norm),
                      hybrid_wiring(own.ffn_norm, own.ffn_residual, norm),
                      {.q = inner("use_query_norm"),
                       .k = inner("use_key_norm"),
                       .v = inner("use_value_norm"),
                       .context = inner("use_context_norm")}});
  }
  return layers;
}

bool is_hybrid(const JsonObject& config) {
  return std::ranges::any_of(hybrid_keys(), [&](const std::string& key) { return config.has(key); });
}

NormPlan read_plan(const JsonObject& config, std::int64_t num_layers) {
  const NormSite norm = site_of(config);
  NormPlan plan;
  if (config.find_flag("embedding_layer_norm").value_or(false)) plan.embedding = norm;
  if (is_hybrid(config)) {
    plan.layers = hybrid_layers(config, norm, num_layers);
  } else {
    plan.layers.assign(static_cast<std::size_t>(num_layers), olmo_layer(config, norm));
  }
  plan.final = norm;
  return plan;
}

}  // namespace

bool is_olmo_config(const Json& config) {
  if (!config.is_object() || !config.contains("model") || !config.at("model").is_object()) return false;
  return config.at("model").contains("n_layers") && config.at("model").contains("n_heads");
}

OlmoModel read_olmo_config(const Json& json, const std::string& where) {
  const JsonObject config(json.at("model"), cat("[import] ", where, ": model"));
  check_keys(config);
  OlmoModel result;
  result.model = read_model(config);
  RunConfig run;
  run.model = result.model;
  const Problems problems = validate(run);
  if (!problems.empty()) config.fail("as ", problems[0].key, ": ", problems[0].text);
  result.plan = read_plan(config, result.model.num_layers);
  result.norm = norm_config_of(result.plan, result.model);
  return result;
}

}  // namespace norma
