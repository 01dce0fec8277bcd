// Writes config.json, and finds the class of transformers that computes a model.
#include <algorithm>

#include "norma/base/error.h"
#include "norma/config/yaml.h"
#include "norma/interop/hf_folder.h"

#include "hf_sections.h"

namespace norma {
namespace {

Json or_null(const std::optional<std::int64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::int64_t leading_dense_layers(const ModelConfig& model) {
  std::int64_t count = 0;
  while (count < model.num_layers && model.mlp_kind(count) == MlpKind::dense) ++count;
  return count;
}

// ---- What each class adds to the common keys. A model that the class cannot express is written as if it could be:
// reading it back shows the difference. ----

void add_llama(const ModelConfig& model, Json& config) {
  config["mlp_bias"] = false;
  config["head_dim"] = model.head_width();
}

void add_qwen3(const ModelConfig& model, Json& config) {
  config["head_dim"] = model.head_width();  // the class's default is 128
  config["use_sliding_window"] = false;
  config["sliding_window"] = nullptr;
}

void add_nothing(const ModelConfig&, Json&) {}

void add_experts(const ModelConfig& model, Json& config) {
  config["num_experts"] = model.moe.num_experts;
  config["num_experts_per_tok"] = model.moe.top_k;
  config["norm_topk_prob"] = model.moe.normalize_weights;
  config["router_aux_loss_coef"] = model.moe.balance_loss;
  config["output_router_logits"] = false;
}

void add_olmoe(const ModelConfig& model, Json& config) {
  config["intermediate_size"] = model.expert_width();
  config["clip_qkv"] = nullptr;
  add_experts(model, config);
}

void add_qwen3_moe(const ModelConfig& model, Json& config) {
  add_qwen3(model, config);
  add_experts(model, config);
  config["moe_intermediate_size"] = model.expert_width();
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = Json::array();
}

void add_latent_attention(const ModelConfig& model, Json& config) {
  config["q_lora_rank"] = or_null(model.attention.q_rank);
  config["kv_lora_rank"] = model.kv_rank();
  config["qk_nope_head_dim"] = model.nope_dim();
  config["qk_rope_head_dim"] = model.rope_dim();
  config["v_head_dim"] = model.value_width();
  const std::int64_t dense = leading_dense_layers(model);
  config["first_k_dense_replace"] = dense;
  if (dense == model.num_layers) return;
  config["moe_layer_freq"] = 1;
  config["n_routed_experts"] = model.moe.num_experts;
  config["num_experts_per_tok"] = model.moe.top_k;
  config["moe_intermediate_size"] = model.expert_width();
  config["n_shared_experts"] = std::max<std::int64_t>(model.moe.shared_experts, 1);  // both classes always have some
  config["norm_topk_prob"] = model.moe.normalize_weights;
  config["routed_scaling_factor"] = model.moe.routed_scale;
  config["n_group"] = model.moe.groups;
  config["topk_group"] = model.moe_top_groups();
}

void add_deepseek_v2(const ModelConfig& model, Json& config) {
  add_latent_attention(model, config);
  if (!config.contains("n_group")) return;
  const bool grouped = model.moe.groups > 1;
  config["scoring_func"] = "softmax";
  config["topk_method"] = grouped ? "group_limited_greedy" : "greedy";
  if (!grouped) config["n_group"] = config["topk_group"] = nullptr;
}

void add_deepseek_v3(const ModelConfig& model, Json& config) {
  add_latent_attention(model, config);
  config["rope_interleave"] = model.attention.rope_pairs == RopePairs::adjacent;
  if (!config.contains("n_group")) return;
  config["scoring_func"] = "sigmoid";
  config["topk_method"] = "noaux_tc";
}

struct StockClass {
  const char* type;
  const char* architecture;
  void (*add)(const ModelConfig& model, Json& config);
  bool divides_width = false;  // its config requires that num_attention_heads divides hidden_size
};

const std::vector<StockClass>& stock_classes() {
  static const std::vector<StockClass> kClasses = {
      {"llama", "LlamaForCausalLM", add_llama, true},
      {"qwen3", "Qwen3ForCausalLM", add_qwen3},
      {"olmo2", "Olmo2ForCausalLM", add_nothing},
      {"olmoe", "OlmoeForCausalLM", add_olmoe},
      {"qwen3_moe", "Qwen3MoeForCausalLM", add_qwen3_moe},
      {"deepseek_v3", "DeepseekV3ForCausalLM", add_deepseek_v3},
      {"deepseek_v2", "DeepseekV2ForCausalLM", add_deepseek_v2, true},
  };
  return kClasses;
}

void add_norma(const HfModel& of, Json& config) {
  config["auto_map"] = {{"AutoConfig", "configuration_norma.NormaConfig"},
                        {"AutoModelForCausalLM", "modeling_norma.NormaForCausalLM"}};
  write_norma_model(of.model, of.plan, config);
}

// ---- Models that compute the same ----
//
// Two models compute the same logits from the same weights when their canonical forms are equal: there, settings that
// change no logits have a fixed value, and settings that can be written in two ways are written in one.

ModelConfig canonical(ModelConfig model) {
  const std::vector<std::int64_t> moe_layers = model.moe_layers();
  const auto experts = static_cast<std::int64_t>(moe_layers.size());
  std::map<std::string, ModelLayerEdit> layers;
  for (const std::int64_t layer : moe_layers) layers[cat(layer)].mlp = MlpKind::moe;
  if (!model.is_latent()) {
    model.num_kv_heads = model.kv_heads();
    model.head_dim = model.head_width();
  } else {
    model.num_kv_heads = model.num_heads;
  }
  model.vocab_size = model.rows();
  model.embedding_rows.reset();
  MoeConfig& moe = model.moe;
  moe.expert_dim = model.expert_width();
  moe.balance_loss = moe.z_loss = 0.0;
  moe.router_precision = RouterPrecision::automatic;
  if (model.moe_top_groups() == moe.groups) moe.groups = 1;
  if (moe.groups == 1) {
    moe.top_groups.reset();
    moe.group_score = GroupScore::max;
  }
  if (experts == model.num_layers) model.mlp_dim = *moe.expert_dim;
  if (experts == 0) moe = {};
  model.mlp = MlpKind::dense;
  model.layers = std::move(layers);
  return model;
}

NormPlan canonical(NormPlan plan) {
  const auto of_site = [](const SiteInfo&, NormSite& site) { site.gain_init = 1.0; };
  visit_outer_sites(of_site, plan);
  plan.scaled_ffn = DeepnormFfn::all;
  for (LayerPolicy& layer : plan.layers) {
    visit_sites(of_site, layer);
    layer.attention.branch_init_scale = layer.mlp.branch_init_scale = 1.0;
  }
  return plan;
}

bool compute_the_same(const HfModel& a, const HfModel& b) {
  RunConfig of_a, of_b;
  of_a.model = canonical(a.model);
  of_b.model = canonical(b.model);
  return of_a == of_b && canonical(a.plan) == canonical(b.plan);
}

// The model that its config.json describes; nullopt when that cannot be read or describes another model.
std::optional<HfModel> read_back(const HfModel& model) {
  const Json config = hf_config_of(model, {}, HfDtype::fp32);
  try {
    HfModel read = read_hf_config(config, cat("config.json of ", model.model_type), !model.model.tie_embeddings);
    if (!compute_the_same(read, model)) return std::nullopt;
    read.model.moe.balance_loss = model.model.moe.balance_loss;  // settings of training, which are not read
    read.model.moe.z_loss = model.model.moe.z_loss;
    return read;
  } catch (const DataError&) {
    return std::nullopt;
  }
}

}  // namespace

void write_rope(const ModelConfig& model, Json& config) {
  config["rope_theta"] = model.rope_theta;
  config["rope_scaling"] = nullptr;
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", model.rope_theta}};
  if (model.rope.scaling == RopeScaling::none) return;
  Json yarn = {{"rope_type", "yarn"},
               {"type", "yarn"},
               {"rope_theta", model.rope_theta},
               {"factor", *model.rope.factor},
               {"original_max_position_embeddings", *model.rope.original_length},
               {"beta_fast", model.rope.beta_fast},
               {"beta_slow", model.rope.beta_slow}};
  if (model.rope.mscale) yarn["mscale"] = *model.rope.mscale;
  if (model.rope.mscale_all_dim) yarn["mscale_all_dim"] = *model.rope.mscale_all_dim;
  if (model.rope.attention_factor) yarn["attention_factor"] = *model.rope.attention_factor;
  config["rope_parameters"] = config["rope_scaling"] = yarn;
}

// Numbers keep their type in JSON, because transformers 5 distinguishes 1 from 1.0.
Json hf_config_of(const HfModel& of, const HfTokens& tokens, HfDtype dtype) {
  const ModelConfig& model = of.model;
  const auto& classes = stock_classes();
  const auto stock =
      std::find_if(classes.begin(), classes.end(), [&](const auto& one) { return of.model_type == one.type; });
  const bool own = stock == classes.end();
  const char* const type = dtype == HfDtype::bf16 ? "bfloat16" : "float32";
  Json config = {{"architectures", {own ? "NormaForCausalLM" : stock->architecture}},
                 {"model_type", of.model_type},
                 {"vocab_size", model.rows()},
                 {"hidden_size", model.d_model},
                 {"intermediate_size", model.mlp_dim},
                 {"num_hidden_layers", model.num_layers},
                 {"num_attention_heads", model.num_heads},
                 {"num_key_value_heads", model.kv_heads()},
                 {"hidden_act", "silu"},
                 {"max_position_embeddings", model.sequence_length},
                 {"attention_bias", false},
                 {"attention_dropout", 0.0},
                 {"initializer_range", 0.02},
                 {"tie_word_embeddings", model.tie_embeddings},
                 {"bos_token_id", nullptr},
                 {"eos_token_id", or_null(tokens.end_of_text)},
                 {"pad_token_id", or_null(tokens.padding)},
                 {"use_cache", true},
                 {"dtype", type},
                 {"torch_dtype", type}};
  write_rope(model, config);
  if (own) {
    add_norma(of, config);
  } else {
    config["rms_norm_eps"] = of.plan.final.eps;
    stock->add(model, config);
  }
  return config;
}

HfModel hf_model_of(const ModelConfig& model, const NormPlan& plan, RemoteCode remote_code) {
  if (model.document_separator) {
    throw ConfigError(
        "[export] model.document_separator keeps attention inside documents, which no class of transformers does; "
        "--ignore-document-separator writes the model without it: the same for text without that token");
  }
  HfModel written;
  written.model = model;
  written.plan = plan;
  if (remote_code == RemoteCode::automatic) {
    for (const StockClass& one : stock_classes()) {
      if (one.divides_width && model.d_model % model.num_heads != 0) continue;
      written.model_type = one.type;
      if (auto read = read_back(written)) return *read;
    }
  }
  written.model_type = kNormaType;
  const auto read = read_back(written);
  NORMA_CHECK(read.has_value(), "[export] config.json of our own class does not describe this model");
  return *read;
}

}  // namespace norma
