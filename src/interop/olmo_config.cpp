// Reads the model section of OLMo's config.yaml. Defaults are those of OLMo's olmo/config.py and of HybridNorm's and
// OLMoE's forks of it.
#include <algorithm>

#include "norma/interop/olmo_folder.h"
#include "norma/norm/plan.h"

#include "hf_fields.h"
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

void check_keys(const HfFields& config, const Json& model) {
  std::vector<std::string> known = read_keys();
  known.insert(known.end(), hybrid_keys().begin(), hybrid_keys().end());
  known.insert(known.end(), neutral_keys().begin(), neutral_keys().end());
  for (const FixedFlag& flag : kFixedFlags) known.emplace_back(flag.key);
  known.insert(known.end(), {"activation_type", "block_group_size"});
  for (const auto& [key, value] : model.items()) {
    if (std::ranges::find(known, key) == known.end()) {
      config.fail(cat("the key ", key, " is not known", did_you_mean(key, known)));
    }
  }
  for (const FixedFlag& flag : kFixedFlags) {
    if (config.flag(flag.key).value_or(flag.fallback) == flag.supported) continue;
    config.fail(cat(flag.key, config.has(flag.key) ? "" : " is not given, so it", " is ",
                    flag.supported ? "false" : "true", ", which is not supported"));
  }
  const std::string activation = config.text("activation_type").value_or("swiglu");
  if (activation != "swiglu") config.fail(cat("activation_type must be swiglu; got '", activation, "'"));
  if (config.integer("block_group_size").value_or(1) != 1) config.fail("block_group_size must be 1");
}

std::int64_t mlp_width(const HfFields& config, std::int64_t d_model) {
  constexpr std::int64_t kMostRatio = 1024;
  const std::int64_t ratio = config.integer("mlp_ratio").value_or(4);
  if (ratio > kMostRatio) config.fail(cat("mlp_ratio must be at most ", kMostRatio, "; got ", ratio));
  const std::int64_t both = config.integer("mlp_hidden_size").value_or(ratio * d_model);
  if (both == 0 || both % 2 != 0) config.fail(cat("mlp_hidden_size must be even and above 0; got ", both));
  return both / 2;  // OLMo counts both halves of the gated product
}

void read_heads(const HfFields& config, ModelConfig& model) {
  model.num_heads = config.need_integer("n_heads");
  const bool single = config.flag("multi_query_attention").value_or(false);
  model.num_kv_heads = config.integer("n_kv_heads").value_or(single ? 1 : model.num_heads);
  if (single && model.num_kv_heads != 1) config.fail("multi_query_attention contradicts n_kv_heads");
}

void read_experts(const HfFields& config, ModelConfig& model) {
  const std::string type = config.text("block_type").value_or("sequential");
  if (type != "sequential" && type != "moe") {
    config.fail(cat("block_type '", type, "' is not supported; allowed: sequential, moe"));
  }
  if (type == "sequential") return;
  model.mlp = MlpKind::moe;
  model.moe.num_experts = config.integer("moe_num_experts").value_or(8);
  model.moe.top_k = config.integer("moe_top_k").value_or(2);
  model.moe.balance_loss = config.number("moe_loss_weight").value_or(0.1);
  model.moe.z_loss = config.number("moe_zloss_weight").value_or(0.0);
}

ModelConfig read_model(const HfFields& config) {
  ModelConfig model;
  model.d_model = config.need_integer("d_model");
  model.num_layers = config.need_integer("n_layers");
  read_heads(config, model);
  model.mlp_dim = mlp_width(config, model.d_model);
  model.vocab_size = config.need_integer("vocab_size");
  model.embedding_rows = config.integer("embedding_size").value_or(model.vocab_size);
  model.tie_embeddings = config.flag("weight_tying").value_or(true);
  model.sequence_length = config.integer("max_sequence_length").value_or(1024);
  model.rope_theta = config.number("rope_theta").value_or(10000.0);
  model.clip_qkv = config.number("clip_qkv");
  read_experts(config, model);
  return model;
}

NormSite site_of(const HfFields& config) {
  const std::string type = config.text("layer_norm_type").value_or("default");
  if (type != "rms" && type != "default") {
    config.fail(cat("layer_norm_type '", type, "' is not supported; allowed: rms, default"));
  }
  return {type == "rms" ? NormKind::rms : NormKind::layer, config.number("layer_norm_eps").value_or(1e-5), 1.0};
}

// OLMo's own placements: norms on inputs or on outputs, and norms on whole q and k or not.
LayerPolicy olmo_layer(const HfFields& config, const NormSite& norm) {
  LayerPolicy layer;
  const bool after = config.flag("norm_after").value_or(false);
  for (ResidualWiring* wiring : {&layer.attention, &layer.mlp}) (after ? wiring->out : wiring->in) = norm;
  if (config.flag("attention_layer_norm").value_or(false)) {
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

HybridFlags with_changes(HybridFlags flags, const std::map<std::string, bool>& changes, const HfFields& config) {
  for (const auto& [name, value] : changes) {
    bool* const flag = name == "attn_norm"       ? &flags.attn_norm
                       : name == "ffn_norm"      ? &flags.ffn_norm
                       : name == "attn_residual" ? &flags.attn_residual
                       : name == "ffn_residual"  ? &flags.ffn_residual
                                                 : nullptr;
    if (flag == nullptr) {
      config.fail(cat("norm_pos_special_config: '", name, "' is not known",
                      did_you_mean(name, {"attn_norm", "ffn_norm", "attn_residual", "ffn_residual"})));
    }
    *flag = value;
  }
  return flags;
}

std::vector<LayerPolicy> hybrid_layers(const HfFields& config, const NormSite& norm, std::int64_t num_layers) {
  for (const char* key : {"norm_after", "attention_layer_norm"}) {
    if (config.flag(key).value_or(false)) config.fail(cat(key, " has no meaning beside HybridNorm's own keys"));
  }
  const auto flag = [&](const char* key, bool fallback) { return config.flag(key).value_or(fallback); };
  const HybridFlags flags{flag("attn_norm", true), flag("ffn_norm", true), flag("attn_residual_after_norm", false),
                          flag("ffn_residual_after_norm", false)};
  const auto inner = [&](const char* key) {
    return flag(key, false) ? HeadSite{norm, Granularity::per_head} : HeadSite{};
  };
  OlmoLayerFlags special =
      parse_layer_flags(config.text("norm_pos_special_config").value_or(""), "norm_pos_special_config");
  if (!special.empty() && special.rbegin()->first >= num_layers) {
    config.fail(cat("norm_pos_special_config names layer ", special.rbegin()->first, " of ", num_layers));
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

bool is_hybrid(const HfFields& config) {
  return std::ranges::any_of(hybrid_keys(), [&](const std::string& key) { return config.has(key.c_str()); });
}

NormPlan read_plan(const HfFields& config, std::int64_t num_layers) {
  const NormSite norm = site_of(config);
  NormPlan plan;
  if (config.flag("embedding_layer_norm").value_or(false)) plan.embedding = norm;
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
  const HfFields config(json.at("model"), where + ": model");
  check_keys(config, json.at("model"));
  OlmoModel result;
  result.model = read_model(config);
  RunConfig run;
  run.model = result.model;
  const Problems problems = validate(run);
  if (!problems.empty()) config.fail(cat("as ", problems[0].key, ": ", problems[0].text));
  result.plan = read_plan(config, result.model.num_layers);
  result.norm = norm_config_of(result.plan, result.model);
  return result;
}

}  // namespace norma
