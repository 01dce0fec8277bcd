// Reads config.json of a Hugging Face folder.
#include <algorithm>

#include "norma/interop/hf_folder.h"

#include "hf_experts.h"
#include "hf_sections.h"

namespace norma {
namespace {

// A class of transformers whose placement is one of our presets, or our own class, whose placement is data.
struct ModelClass {
  const char* type;
  const char* preset;
  bool latent = false;
  void (*read_experts)(const HfFields& config, ModelConfig& model) = nullptr;  // null: all layers are dense
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

const ModelClass& find_class(const HfFields& config) {
  const std::string type = config.required("model_type", config.text("model_type"));
  std::vector<std::string> names;
  for (const ModelClass& one : model_classes()) {
    if (type == one.type) return one;
    names.push_back(one.type);
  }
  config.fail(cat("model_type '", type, "' is not known", did_you_mean(type, names), "; allowed: ", join(names, ", ")));
}

// Refuses settings that would change the result and that Norma does not have.
void refuse_what_differs(const HfFields& config) {
  for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window", "use_qk_norm"}) {
    if (config.flag(key).value_or(false)) config.fail(cat(key, " is true, which is not supported"));
  }
  if (config.has("quantization_config")) config.fail("quantization_config is set, which is not supported");
  const std::string activation = config.text("hidden_act").value_or("silu");
  if (activation != "silu") config.fail(cat("hidden_act must be silu; got '", activation, "'"));
  if (config.number("partial_rotary_factor").value_or(1.0) != 1.0) {
    config.fail("partial_rotary_factor other than 1 is not supported");
  }
  if (!config.has("layer_types")) return;
  for (const Json& type : config.at("layer_types")) {
    if (type != "full_attention") config.fail(cat("layer_types may hold full_attention only; got ", type.dump()));
  }
}

// The section that transformers 5 calls rope_parameters and transformers 4 rope_scaling, if there is one.
std::optional<HfFields> rope_section(const HfFields& config) {
  const auto section = config.section("rope_parameters"), older = config.section("rope_scaling");
  if (section && older && config.at("rope_parameters") != config.at("rope_scaling")) {
    config.fail("rope_parameters and rope_scaling are both set and differ");
  }
  return section ? section : older;
}

// Refuses parameters without a rope_type, and a section of its own for each kind of layer.
void check_rope_members(const HfFields& config, const char* name) {
  if (!config.section(name)) return;
  const Json& members = config.at(name);
  const bool says_kind = members.contains("rope_type") || members.contains("type");
  for (const auto& [key, value] : members.items()) {
    if (value.is_object()) config.fail(cat(name, ".", key, " is a section of its own, which is not supported"));
    if (!says_kind && key != "rope_theta" && !value.is_null())
      config.fail(cat(name, " holds ", key, " but no rope_type"));
  }
}

void read_yarn(const HfFields& config, const HfFields& rope, ModelConfig& model) {
  model.rope.scaling = RopeScaling::yarn;
  model.rope.factor = rope.need_number("factor");
  model.rope.original_length =
      rope.integer("original_max_position_embeddings").value_or(config.need_integer("max_position_embeddings"));
  model.rope.beta_fast = rope.number("beta_fast").value_or(32.0);
  model.rope.beta_slow = rope.number("beta_slow").value_or(1.0);
  model.rope.mscale = rope.number("mscale");
  model.rope.mscale_all_dim = rope.number("mscale_all_dim");
  model.rope.attention_factor = rope.number("attention_factor");
  if (!rope.flag("truncate").value_or(true)) rope.fail("truncate: false is not supported");
}

}  // namespace

void read_rope(const HfFields& config, bool may_scale, ModelConfig& model) {
  for (const char* name : {"rope_parameters", "rope_scaling"}) check_rope_members(config, name);
  const std::optional<HfFields> rope = rope_section(config);
  std::optional<double> theta = rope ? rope->number("rope_theta") : std::nullopt;
  if (!theta) theta = config.number("rope_theta");
  model.rope_theta = theta.value_or(10000.0);
  if (!rope) return;
  std::optional<std::string> type = rope->text("rope_type");
  if (!type) type = rope->text("type");
  if (!type || *type == "default") return;
  if (*type != "yarn" || !may_scale) {
    rope->fail(cat("rope_type '", *type, "' is not supported",
                   may_scale ? "; allowed: default, yarn" : " for this class; allowed: default"));
  }
  read_yarn(config, *rope, model);
}

void read_grouped_heads(const HfFields& config, const std::string& type, ModelConfig& model) {
  model.num_kv_heads = config.integer("num_key_value_heads").value_or(model.num_heads);
  constexpr std::int64_t kQwenHead = 128;  // the default of the class
  if (model.num_heads == 0) config.fail("num_attention_heads must be above 0");
  const std::int64_t fallback = type.starts_with("qwen3") ? kQwenHead : model.d_model / model.num_heads;
  model.head_dim = config.integer("head_dim").value_or(fallback);
}

// The five keys below give all head sizes. head_dim is not read: it has another meaning in each version.
void read_latent_heads(const HfFields& config, const std::string& type, ModelConfig& model) {
  const std::int64_t kv_heads = config.integer("num_key_value_heads").value_or(model.num_heads);
  if (kv_heads != model.num_heads) {
    config.fail(cat("num_key_value_heads must equal num_attention_heads = ", model.num_heads, "; got ", kv_heads));
  }
  AttentionConfig& attention = model.attention;
  attention.kind = AttentionKind::mla;
  attention.q_rank = config.integer("q_lora_rank");
  attention.kv_rank = config.need_integer("kv_lora_rank");
  attention.nope_dim = config.need_integer("qk_nope_head_dim");
  attention.rope_dim = config.need_integer("qk_rope_head_dim");
  attention.value_dim = config.need_integer("v_head_dim");
  const bool adjacent = type == "deepseek_v2" || config.flag("rope_interleave").value_or(true);
  attention.rope_pairs = adjacent ? RopePairs::adjacent : RopePairs::halves;
}

void read_shape(const HfFields& config, ModelConfig& model) {
  model.d_model = config.need_integer("hidden_size");
  model.num_layers = config.need_integer("num_hidden_layers");
  model.num_heads = config.need_integer("num_attention_heads");
  model.mlp_dim = config.need_integer("intermediate_size");
  model.vocab_size = config.need_integer("vocab_size");
  model.sequence_length = config.need_integer("max_position_embeddings");
}

namespace {

// A class of transformers, whose placement is a preset.
void read_stock_class(const HfFields& config, const ModelClass& of, HfModel& result) {
  ModelConfig& model = result.model;
  if (config.has("clip_qkv")) config.fail("clip_qkv is set, which is not supported");
  of.latent ? read_latent_heads(config, of.type, model) : read_grouped_heads(config, of.type, model);
  read_rope(config, of.latent, model);
  if (of.read_experts != nullptr) of.read_experts(config, model);
  result.norm.preset = of.preset;
  result.norm.eps = config.need_number("rms_norm_eps");
}

}  // namespace

HfModel read_hf_config(const Json& json, const std::string& where, bool has_head) {
  const HfFields config(json, where);
  if (!json.is_object()) config.fail("must be a JSON object");
  const ModelClass& of = find_class(config);
  refuse_what_differs(config);
  HfModel result;
  result.model_type = of.type;
  read_shape(config, result.model);
  result.model.tie_embeddings = config.flag("tie_word_embeddings").value_or(!has_head);
  result.skipped_layers = config.integer("num_nextn_predict_layers").value_or(0);
  const bool own = result.model_type == kNormaType;
  own ? read_norma_model(config, result) : read_stock_class(config, of, result);

  RunConfig run;  // the shapes must also be legal here
  run.model = result.model;
  run.norm = result.norm;
  Problems problems = validate(run);
  const NormPlan given = result.plan;
  if (problems.empty()) result.plan = make_norm_plan(result.norm, result.model, problems);
  if (!problems.empty()) config.fail(cat("as ", problems[0].key, ": ", problems[0].text));
  NORMA_CHECK(!own || result.plan == given, "[import] ", where, ": no config makes this norm_plan");
  return result;
}

}  // namespace norma
