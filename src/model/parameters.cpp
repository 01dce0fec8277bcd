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
  return {norm.name, {norm.width}, ParameterRole::norm, layer, norm.site.gain_init};
}

// "blocks.3" of "blocks.3.mlp.norm_in.weight", "head" of "head.norm.weight".
std::string unit_of(const std::string& parameter) {
  const std::vector<std::string> parts = split(parameter, '.');
  return parts[0] == "blocks" ? parts[0] + "." + parts[1] : parts[0];
}

}  // namespace

std::vector<UnitSpec> model_parameters(const ModelConfig& m, const NormPlan& plan) {
  std::map<std::string, std::vector<NormParameter>> norms;
  for (const NormParameter& norm : norm_parameters(plan, m)) norms[unit_of(norm.name)].push_back(norm);

  std::vector<UnitSpec> units;
  const auto add_unit = [&](const std::string& name, std::int64_t layer, std::vector<ParameterSpec> matrices) {
    for (const NormParameter& norm : norms[name]) matrices.push_back(norm_spec(norm, layer));
    units.push_back({name, std::move(matrices)});
  };
  add_unit("embedding", -1, {{"embedding.weight", {m.rows(), m.d_model}, ParameterRole::embedding}});
  for (std::int64_t l = 0; l < m.num_layers; ++l) {
    const std::string block = cat("blocks.", l);
    add_unit(block, l,
             {{block + ".attention.qkv.weight", {m.qkv_width(), m.d_model}, ParameterRole::qkv, l},
              {block + ".attention.out.weight", {m.d_model, m.q_width()}, ParameterRole::attention_out, l},
              {block + ".mlp.up_gate.weight", {2 * m.mlp_dim, m.d_model}, ParameterRole::up_gate, l},
              {block + ".mlp.down.weight", {m.d_model, m.mlp_dim}, ParameterRole::down, l}});
  }
  std::vector<ParameterSpec> head;
  if (!m.tie_embeddings) head.push_back({"head.weight", {m.rows(), m.d_model}, ParameterRole::head});
  add_unit("head", -1, head);
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
      spans.push_back({p.name, p.shape, 0, p.numel(), decays(p.role), is_frozen(freeze, p.name)});
    }
    layout.units.push_back(lay_out_unit(unit.name, spans));
  }
  return layout;
}

}  // namespace norma
