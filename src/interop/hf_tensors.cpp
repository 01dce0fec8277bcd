// Which ranges of our parameters the tensors of a Hugging Face folder hold, and their names.
#include <map>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/interop/hf_folder.h"
#include "norma/model/parameters.h"

#include "parameter_name.h"

namespace norma {

namespace {

// Tensors that are whole parameters.
const std::map<std::string, std::string>& whole_names() {
  static const std::map<std::string, std::string> kNames = {
      {"embedding", "model.embed_tokens.weight"},
      {"head", "lm_head.weight"},
      {"head.norm", "model.norm.weight"},
      {"attention.out", "self_attn.o_proj.weight"},
      {"attention.q", "self_attn.q_proj.weight"},
      {"attention.q_down", "self_attn.q_a_proj.weight"},
      {"attention.q_up", "self_attn.q_b_proj.weight"},
      {"attention.kv_down", "self_attn.kv_a_proj_with_mqa.weight"},
      {"attention.kv_up", "self_attn.kv_b_proj.weight"},
      {"attention.norm_q_latent", "self_attn.q_a_layernorm.weight"},
      {"attention.norm_kv_latent", "self_attn.kv_a_layernorm.weight"},
      {"attention.norm_q", "self_attn.q_norm.weight"},
      {"attention.norm_k", "self_attn.k_norm.weight"},
      {"attention.norm_in", "input_layernorm.weight"},
      {"attention.norm_out", "post_attention_layernorm.weight"},  // olmo2 ...
      {"mlp.norm_in", "post_attention_layernorm.weight"},         // ... and all others
      {"mlp.norm_out", "post_feedforward_layernorm.weight"},
      {"mlp.down", "mlp.down_proj.weight"},
      {"mlp.shared.down", "mlp.shared_experts.down_proj.weight"},
      {"mlp.router", "mlp.gate.weight"},
      {"mlp.selection_bias", "mlp.gate.e_score_correction_bias"},
  };
  return kNames;
}

// The norms of our own class. Both sub-layers of a layer may have all norms of a wiring, so each needs its own names.
const std::map<std::string, std::string>& own_names() {
  static const std::map<std::string, std::string> kNames = [] {
    std::map<std::string, std::string> names = {
        {"embedding.norm", "model.embed_norm.weight"},
        {"attention.norm_q_latent", "self_attn.q_a_layernorm.weight"},  // as in DeepSeek's classes
        {"attention.norm_kv_latent", "self_attn.kv_a_layernorm.weight"},
        {"attention.norm_rope_key", "self_attn.k_rope_norm.weight"},
    };
    const auto add = [&](const LayerSite& site, const NormSite&) {
      const std::string wiring = site.group == SiteGroup::mlp ? "mlp_residual" : "attn_residual";
      names.emplace(site.parameter(), site.group == SiteGroup::inner ? cat("self_attn.", site.name, "_norm.weight")
                                                                     : cat(wiring, ".norm_", site.name, ".weight"));
    };
    const LayerPolicy layer{};
    visit_sites(add, layer);
    return names;
  }();
  return kNames;
}

const std::string& whole_name(const std::string& leaf, bool own, const std::string& parameter) {
  if (own && own_names().contains(leaf)) return own_names().at(leaf);
  const auto found = whole_names().find(leaf);
  NORMA_CHECK(found != whole_names().end(), "[interop] no Hugging Face name for ", parameter);
  return found->second;
}

// Collects the ranges of one parameter, from its first element on.
class Ranges {
 public:
  Ranges(const ParameterSpec& p, std::vector<HfRange>& all)
      : parameter_(p), prefix_(p.layer < 0 ? "" : cat("model.layers.", p.layer, ".")), all_(all) {}

  // The parameter's next `rows` rows are rows [first, first + rows) of a tensor of this shape.
  void add(const std::string& tensor, const std::vector<std::int64_t>& shape, std::int64_t rows, std::int64_t first) {
    const std::int64_t width = parameter_.shape.size() > 1 ? parameter_.shape.back() : 1;
    all_.push_back({prefix_ + tensor, shape, parameter_.name, begin_, rows * width, first * width});
    begin_ += rows * width;
  }
  // The parameter's next `rows` rows are a whole tensor.
  void add(const std::string& tensor, std::int64_t rows) { add(tensor, {rows, parameter_.shape.back()}, rows, 0); }

 private:
  const ParameterSpec& parameter_;
  std::string prefix_;
  std::vector<HfRange>& all_;
  std::int64_t begin_ = 0;
};

void add_experts(const ParameterSpec& p, bool fused, Ranges& ranges) {
  const std::int64_t experts = p.shape[0], rows = p.shape[1], half = rows / 2;
  const bool down = p.role == ParameterRole::experts_down;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::string name = cat("mlp.experts.", e, ".");
    if (fused && down) {
      ranges.add("mlp.experts.down_proj", p.shape, rows, e * rows);
    } else if (fused) {  // gate first, then up
      ranges.add("mlp.experts.gate_up_proj", p.shape, half, e * rows + half);
      ranges.add("mlp.experts.gate_up_proj", p.shape, half, e * rows);
    } else if (down) {
      ranges.add(name + "down_proj.weight", rows);
    } else {
      ranges.add(name + "up_proj.weight", half);
      ranges.add(name + "gate_proj.weight", half);
    }
  }
}

void add_ranges(const ParameterSpec& p, const HfModel& of, bool fused, std::vector<HfRange>& all) {
  const ModelConfig& m = of.model;
  const std::string leaf = leaf_of(p);
  Ranges ranges(p, all);
  if (leaf == "attention.qkv") {
    ranges.add("self_attn.q_proj.weight", m.q_width());
    ranges.add("self_attn.k_proj.weight", m.kv_width());
    return ranges.add("self_attn.v_proj.weight", m.kv_width());
  }
  if (p.role == ParameterRole::up_gate) {
    const std::string name = leaf == "mlp.up_gate" ? "mlp." : "mlp.shared_experts.";
    ranges.add(name + "up_proj.weight", p.shape[0] / 2);
    return ranges.add(name + "gate_proj.weight", p.shape[0] / 2);
  }
  if (p.shape.size() == 3) return add_experts(p, fused, ranges);
  ranges.add(whole_name(leaf, of.model_type == kNormaType, p.name), p.shape, p.shape[0], 0);
}

}  // namespace

std::vector<HfRange> hf_ranges_of(const ParameterSpec& parameter, const HfModel& of, bool fused_experts) {
  std::vector<HfRange> all;
  add_ranges(parameter, of, fused_experts, all);
  return all;
}

std::vector<HfRange> hf_ranges(const HfModel& of, bool fused_experts) {
  std::vector<HfRange> all;
  for (const UnitSpec& unit : model_parameters(of.model, of.plan)) {
    for (const ParameterSpec& p : unit.parameters) add_ranges(p, of, fused_experts, all);
  }
  return all;
}

}  // namespace norma
