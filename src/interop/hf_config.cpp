// Reads config.json of a Hugging Face folder.
#include <algorithm>

#include "norma/interop/hf_folder.h"

#include "hf_experts.h"
#include "hf_sections.h"

namespace norma {
namespace {

// A class of transformers whose placement is one of our presets, or our own class, whose placement is data.
struct ModelClass {
  std::string type;
  const char* preset;
  bool latent = false;
  void (*read_experts)(const JsonObject& config, ModelConfig& model) = nullptr;  // null: all layers are dense
};

const std::vector<ModelClass>& model_classes() {
  static const std::vector<ModelClass> kClasses = {
      {"llama", "pre"},
      {"qwen3", "qk"},
      {"olmo2", "olmo2"},
      {"olmoe", "olmoe", false, read_olmoe_experts},
      {"qwen3_moe", "qk", false, read_qwen_experts},
      {"deepseek_v2", "pre", true, read_deepseek_v2_experts},
      {"deepseek_v3", "pre", true, read_deepseek_v3_experts},
      {kNormaType, ""},
  };
  return kClasses;
}

const ModelClass& find_class(const JsonObject& config) {
  std::vector<std::string> names;
  for (const ModelClass& one : model_classes()) names.emplace_back(one.type);
  return *std::ranges::find(model_classes(), config.choice("model_type", names), &ModelClass::type);
}

// Refuses settings that would change the result and that Norma does not have.
void refuse_what_differs(const JsonObject& config) {
  for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window", "use_qk_norm"}) {
    if (config.find_flag(key).value_or(false)) config.fail_at(key, "is true, which is not supported");
  }
  if (config.has("quantization_config")) config.fail_at("quantization_config", "is set, which is not supported");
  if (config.has("hidden_act")) config.choice("hidden_act", {"silu"});
  if (config.find_number("partial_rotary_factor").value_or(1.0) != 1.0) {
    config.fail_at("partial_rotary_factor", "must be 1; other values are not supported");
  }
  if (!config.has("layer_types")) return;
  for (const std::string& type : config.texts("layer_types")) {
    if (type != "full_attention") config.fail_at("layer_types", "may hold full_attention only; got '", type, "'");
  }
}

// The section that transformers 5 calls rope_parameters and transformers 4 rope_scaling, if there is one.
std::optional<JsonObject> rope_section(const JsonObject& config) {
  const auto section = config.find_object("rope_parameters"), older = config.find_object("rope_scaling");
  if (section && older && config.at("rope_parameters") != config.at("rope_scaling")) {
    config.fail("rope_parameters and rope_scaling are both set and differ");
  }
  return section ? section : older;
}

// Refuses parameters without a rope_type, and a section of its own for each kind of layer.
void check_rope_members(const JsonObject& config, const char* name) {
  const std::optional<JsonObject> section = config.find_object(name);
  if (!section) return;
  const bool says_kind = section->value().contains("rope_type") || section->value().contains("type");
  for (const auto& [key, value] : section->value().items()) {
    if (value.is_object()) section->fail_at(key, "is a section of its own, which is not supported");
    if (!says_kind && key != "rope_theta" && !value.is_null()) section->fail("holds ", key, " but no rope_type");
  }
}

void read_yarn(const JsonObject& config, const JsonObject& rope, ModelConfig& model) {
  model.rope.scaling = RopeScaling::yarn;
  model.rope.factor = rope.number("factor");
  model.rope.original_length = rope.find_integer("original_max_position_embeddings", kCounts)
                                   .value_or(config.integer("max_position_embeddings", kCounts));
  model.rope.beta_fast = rope.find_number("beta_fast").value_or(32.0);
  model.rope.beta_slow = rope.find_number("beta_slow").value_or(1.0);
  model.rope.mscale = rope.find_number("mscale");
  model.rope.mscale_all_dim = rope.find_number("mscale_all_dim");
  model.rope.attention_factor = rope.find_number("attention_factor");
  if (!rope.find_flag("truncate").value_or(true)) rope.fail_at("truncate", "must be true; false is not supported");
}

}  // namespace

void read_rope(const JsonObject& config, bool may_scale, ModelConfig& model) {
  for (const char* name : {"rope_parameters", "rope_scaling"}) check_rope_members(config, name);
  const std::optional<JsonObject> rope = rope_section(config);
  std::optional<double> theta = rope ? rope->find_number("rope_theta") : std::nullopt;
  if (!theta) theta = config.find_number("rope_theta");
  model.rope_theta = theta.value_or(10000.0);
  if (!rope) return;
  std::optional<std::string> type = rope->find_text("rope_type");
  if (!type) type = rope->find_text("type");
  if (!type || *type == "default") return;
  if (*type != "yarn" || !may_scale) {
    rope->fail_at("rope_type", "is '", *type, "', which is not supported",
                  may_scale ? "; allowed: default, yarn" : " for this class; allowed: default");
  }
  read_yarn(config, *rope, model);
}

void read_grouped_heads(const JsonObject& config, const std::string& type, ModelConfig& model) {
  model.num_kv_heads = config.find_integer("num_key_value_heads", kCounts).value_or(model.num_heads);
  constexpr std::int64_t kQwenHead = 128;  // the default of the class
  if (model.num_heads == 0) config.fail_at("num_attention_heads", "must be above 0");
  const std::int64_t fallback = type.starts_with("qwen3") ? kQwenHead : model.d_model / model.num_heads;
  model.head_dim = config.find_integer("head_dim", kCounts).value_or(fallback);
}

// The five keys below give all head sizes. head_dim is not read: it has another meaning in each version.
void read_latent_heads(const JsonObject& config, const std::string& type, ModelConfig& model) {
  const std::int64_t kv_heads = config.find_integer("num_key_value_heads", kCounts).value_or(model.num_heads);
  if (kv_heads != model.num_heads) {
    config.fail_at("num_key_value_heads", "must equal num_attention_heads = ", model.num_heads, "; got ", kv_heads);
  }
  AttentionConfig& attention = model.attention;
  attention.kind = AttentionKind::mla;
  attention.q_rank = config.find_integer("q_lora_rank", kCounts);
  attention.kv_rank = config.integer("kv_lora_rank", kCounts);
  attention.nope_dim = config.integer("qk_nope_head_dim", kCounts);
  attention.rope_dim = config.integer("qk_rope_head_dim", kCounts);
  attention.value_dim = config.integer("v_head_dim", kCounts);
  const bool adjacent = type == "deepseek_v2" || config.find_flag("rope_interleave").value_or(true);
  attention.rope_pairs = adjacent ? RopePairs::adjacent : RopePairs::halves;
}

void read_shape(const JsonObject& config, ModelConfig& model) {
  model.d_model = config.integer("hidden_size", kCounts);
  model.num_layers = config.integer("num_hidden_layers", kCounts);
  model.num_heads = config.integer("num_attention_heads", kCounts);
  model.mlp_dim = config.integer("intermediate_size", kCounts);
  model.vocab_size = config.integer("vocab_size", kCounts);
  model.sequence_length = config.integer("max_position_embeddings", kCounts);
}

namespace {

// A class of transformers, whose placement is a preset.
void read_stock_class(const JsonObject& config, const ModelClass& of, HfModel& result) {
  ModelConfig& model = result.model;
  if (config.has("clip_qkv")) config.fail_at("clip_qkv", "is set, which is not supported");
  of.latent ? read_latent_heads(config, of.type, model) : read_grouped_heads(config, of.type, model);
  read_rope(config, of.latent, model);
  if (of.read_experts != nullptr) of.read_experts(config, model);
  result.norm.preset = of.preset;
  result.norm.eps = config.number("rms_norm_eps");
}

}  // namespace

HfModel read_hf_config(const Json& json, const std::string& where, bool has_head) {
  const JsonObject config(json, cat("[import] ", where));
  const ModelClass& of = find_class(config);
  refuse_what_differs(config);
  HfModel result;
  result.model_type = of.type;
  read_shape(config, result.model);
  result.model.tie_embeddings = config.find_flag("tie_word_embeddings").value_or(!has_head);
  result.skipped_layers = config.find_integer("num_nextn_predict_layers", kCounts).value_or(0);
  const bool own = result.model_type == kNormaType;
  own ? read_norma_model(config, result) : read_stock_class(config, of, result);

  RunConfig run;  // the shapes must also be legal here
  run.model = result.model;
  run.norm = result.norm;
  Problems problems = validate(run);
  const NormPlan given = result.plan;
  if (problems.empty()) result.plan = make_norm_plan(result.norm, result.model, problems);
  if (!problems.empty()) config.fail("as ", problems[0].key, ": ", problems[0].text);
  NORMA_CHECK(!own || result.plan == given, "[import] ", where, ": no config makes this norm_plan");
  return result;
}

}  // namespace norma
