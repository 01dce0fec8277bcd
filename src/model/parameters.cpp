#include "norma/model/parameters.h"

#include <algorithm>
#include <map>

#include <fnmatch.h>

#include "norma/base/text.h"

namespace norma {

std::int64_t ParameterSpec::numel() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

namespace {

ParameterSpec norm_spec(const NormParameter& norm, std::int64_t layer) {
  return {norm.name, {norm.width}, ParameterRole::norm, layer, norm.site};
}

// "blocks.3" of "blocks.3.mlp.norm_in.weight", "head" of "head.norm.weight".
std::string unit_of(const std::string& parameter) {
  const std::vector<std::string> parts = split(parameter, '.');
  return parts[0] == "blocks" ? parts[0] + "." + parts[1] : parts[0];
}

void add_attention(const ModelConfig& m, std::int64_t l, std::vector<ParameterSpec>& all) {
  const std::string name = cat("blocks.", l, ".attention");
  if (!m.is_latent()) {
    all.push_back({name + ".qkv.weight", {m.qkv_width(), m.d_model}, ParameterRole::qkv, l});
  } else if (m.attention.q_rank) {
    all.push_back({name + ".q_down.weight", {m.q_rank(), m.d_model}, ParameterRole::q_down, l});
    all.push_back({name + ".q_up.weight", {m.q_width(), m.q_rank()}, ParameterRole::q_up, l});
  } else {
    all.push_back({name + ".q.weight", {m.q_width(), m.d_model}, ParameterRole::q, l});
  }
  if (m.is_latent()) {
    all.push_back({name + ".kv_down.weight", {m.latent_width(), m.d_model}, ParameterRole::kv_down, l});
    all.push_back({name + ".kv_up.weight", {m.kv_up_width(), m.kv_rank()}, ParameterRole::kv_up, l});
  }
  all.push_back({name + ".out.weight", {m.d_model, m.context_width()}, ParameterRole::attention_out, l});
}

void add_swiglu(const std::string& name, const ModelConfig& m, std::int64_t width, std::int64_t l,
                std::vector<ParameterSpec>& all) {
  all.push_back({name + ".up_gate.weight", {2 * width, m.d_model}, ParameterRole::up_gate, l});
  all.push_back({name + ".down.weight", {m.d_model, width}, ParameterRole::down, l});
}

void add_mlp(const ModelConfig& m, std::int64_t l, std::vector<ParameterSpec>& all) {
  const std::string name = cat("blocks.", l, ".mlp");
  if (m.mlp_kind(l) == MlpKind::dense) return add_swiglu(name, m, m.mlp_dim, l, all);
  const std::int64_t experts = m.moe.num_experts, width = m.expert_width();
  if (m.moe.selection_bias) {
    all.push_back({name + ".selection_bias", {experts}, ParameterRole::selection_bias, l});
  }
  all.push_back({name + ".router.weight", {experts, m.d_model}, ParameterRole::router, l});
  all.push_back({name + ".experts.up_gate.weight", {experts, 2 * width, m.d_model}, ParameterRole::experts_up_gate, l});
  all.push_back({name + ".experts.down.weight", {experts, m.d_model, width}, ParameterRole::experts_down, l});
  if (m.moe.shared_experts > 0) add_swiglu(name + ".shared", m, m.shared_width(), l, all);
}

}  // namespace

std::vector<UnitSpec> model_parameters(const ModelConfig& m, const NormPlan& plan) {
  std::map<std::string, std::vector<NormParameter>> norms;
  for (const NormParameter& norm : norm_parameters(plan, m)) norms[unit_of(norm.name)].push_back(norm);

  std::vector<UnitSpec> units;
  const auto add_unit = [&](UnitInfo info, std::int64_t layer, std::vector<ParameterSpec> matrices) {
    for (const NormParameter& norm : norms[info.name]) matrices.push_back(norm_spec(norm, layer));
    units.push_back({std::move(info), std::move(matrices)});
  };
  // The gradient of a lookup needs the ids alone; a norm behind it reads its gain again.
  add_unit({"embedding", UnitRole::table, {}, /*backward_reads_parameters=*/plan.embedding.present()}, -1,
           {{"embedding.weight", {m.rows(), m.d_model}, ParameterRole::embedding}});
  for (std::int64_t l = 0; l < m.num_layers; ++l) {
    std::vector<ParameterSpec> matrices;
    add_attention(m, l, matrices);
    add_mlp(m, l, matrices);
    add_unit({cat("blocks.", l), UnitRole::block}, l, std::move(matrices));
  }
  constexpr int kTable = 0;
  if (m.tie_embeddings) {
    add_unit({"head", UnitRole::head, {kTable}}, -1, {});
  } else {
    add_unit({"head", UnitRole::head}, -1, {{"head.weight", {m.rows(), m.d_model}, ParameterRole::head}});
  }
  return units;
}

std::int64_t num_parameters(const std::vector<UnitSpec>& units) {
  std::int64_t sum = 0;
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& parameter : unit.parameters) sum += parameter.numel();
  }
  return sum;
}

namespace {

// "blocks.0.*" or a whole name; '*' stands for any text, dots included.
bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

bool is_frozen(const std::vector<std::string>& freeze, const std::string& name) {
  return std::any_of(freeze.begin(), freeze.end(), [&](const auto& pattern) { return matches(pattern, name); });
}

}  // namespace

Problems check_freeze(const std::vector<UnitSpec>& units, const std::vector<std::string>& freeze) {
  std::vector<std::string> names;
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
  }
  Problems problems;
  for (std::size_t i = 0; i < freeze.size(); ++i) {
    if (std::any_of(names.begin(), names.end(), [&](const auto& name) { return matches(freeze[i], name); })) continue;
    problems.push_back({cat("train.freeze[", i, "]"), 0,
                        cat("no parameter is called '", freeze[i], "'", did_you_mean(freeze[i], names),
                            "; '*' stands for any text: 'embedding.*', 'blocks.0.*', '*.norm_in.weight'")});
  }
  if (!freeze.empty() && std::all_of(names.begin(), names.end(), [&](const auto& n) { return is_frozen(freeze, n); })) {
    problems.push_back({"train.freeze", 0, "leaves no parameter to train"});
  }
  return problems;
}

Layout model_layout(const std::vector<UnitSpec>& units, const OptimConfig& optim,
                    const std::vector<std::string>& freeze) {
  const auto decays = [&](ParameterRole role) {
    if (role == ParameterRole::norm) return optim.decay_norms;
    if (role == ParameterRole::embedding) return optim.decay_embeddings;
    return true;
  };
  Layout layout;
  for (const UnitSpec& unit : units) {
    std::vector<TensorSpan> spans;
    for (const ParameterSpec& p : unit.parameters) {
      const bool frozen = p.role == ParameterRole::selection_bias || is_frozen(freeze, p.name);
      spans.push_back({p.name, p.shape, 0, p.numel(), decays(p.role), frozen});
    }
    layout.units.push_back(lay_out_unit(unit, spans));
  }
  return layout;
}

}  // namespace norma
