#include "support/fixture_model.h"

#include <ATen/ATen.h>

#include "norma/base/error.h"

namespace norma::testing {
namespace {

// OLMo's name of one of our parameters: "blocks.0.mlp.up_gate.weight" -> "transformer.blocks.0.ff_proj.weight".
std::string olmo_name(const std::string& name) {
  static const std::map<std::string, std::string> kLeaves = {
      {"attention.qkv", "att_proj"},
      {"attention.out", "attn_out"},
      {"mlp.up_gate", "ff_proj"},
      {"mlp.down", "ff_out"},
      {"attention.norm_in", "attn_norm"},
      {"attention.norm_out", "attn_out_norm"},
      {"attention.norm_sum", "attn_sum_norm"},
      {"mlp.norm_in", "ff_norm"},
      {"mlp.norm_out", "ff_out_norm"},
      {"mlp.norm_sum", "ff_sum_norm"},
      {"attention.norm_q", "q_norm"},
      {"attention.norm_k", "k_norm"},
      {"attention.norm_v", "v_norm"},
      {"attention.norm_context", "c_norm"},
      {"mlp.router", "ffn.router.layer"},
  };
  if (name == "embedding.weight") return "transformer.wte.weight";
  if (name == "embedding.norm.weight") return "transformer.emb_norm.weight";
  if (name == "head.norm.weight") return "transformer.ln_f.weight";
  if (name == "head.weight") return "transformer.ff_out.weight";
  const std::vector<std::string> parts = split(name, '.');  // blocks, 0, attention, qkv, weight
  NORMA_CHECK(parts.size() == 5, "[fixture] unexpected parameter ", name);
  return "transformer.blocks." + parts[1] + "." + kLeaves.at(parts[2] + "." + parts[3]) + ".weight";
}

void add_parameter(const UnitParameter& ours, std::map<std::string, FixtureParameter>& all) {
  using Part = FixtureParameter::Part;
  const std::vector<std::string> parts = split(ours.name, '.');  // blocks, 0, mlp, experts, up_gate, weight
  if (parts.size() != 6) {
    all[olmo_name(ours.name)] = {ours.tensor, Part::whole};
    return;
  }
  const std::string prefix = "transformer.blocks." + parts[1] + ".ffn.experts.mlp.";
  if (parts[4] == "down") {
    all[prefix + "w2"] = {ours.tensor, Part::down};
  } else {
    all[prefix + "w1"] = {ours.tensor, Part::gate};
    all[prefix + "v1"] = {ours.tensor, Part::up};
  }
}

}  // namespace

at::Tensor FixtureParameter::view(const at::Tensor& of_leaf) const {
  if (part == Part::whole) return of_leaf;
  if (part == Part::down) return of_leaf.transpose(1, 2);  // [E, D, F] -> [E, F, D]
  const std::int64_t width = of_leaf.size(1) / 2;
  return of_leaf.narrow(1, part == Part::up ? 0 : width, width);  // [E, 2F, D] -> [E, F, D]
}

at::Tensor FixtureParameter::as_fixture(const at::Tensor& of_leaf) const {
  const at::Tensor mine = view(of_leaf);
  return part == Part::whole ? mine : mine.reshape({-1, mine.size(2)});
}

void FixtureParameter::set(const at::Tensor& flat) const {
  at::Tensor mine = view(leaf);
  mine.copy_(flat.view(mine.sizes()));
}

FixtureModel::FixtureModel(const std::filesystem::path& path) : fixture(read_json(path, 1 << 24)) {
  config = fixture_config(fixture);
  plan = fixture_plan(fixture);
  OptimConfig optim;
  if (fixture.contains("optimizer")) {
    optim.decay_embeddings = fixture.at("optimizer").at("decay_embeddings").get<bool>();
    optim.decay_norms = fixture.at("optimizer").at("decay_norm_and_bias").get<bool>();
  }
  build(Precision::fp64, optim);
  set_weights(fixture.at("weight_rule"));
  const auto rows = fixture.at("ids").get<std::vector<std::vector<std::int64_t>>>();
  std::vector<at::Tensor> stacked;
  for (const auto& row : rows) stacked.push_back(at::tensor(row, at::kLong));
  ids = at::stack(stacked);
}

FixtureModel::FixtureModel(const ModelConfig& model_config, const NormPlan& norms, Precision precision)
    : config(model_config), plan(norms) {
  build(precision, {});
  set_weights({{"a", 0.7}, {"b", 1.3}});
}

void FixtureModel::build(Precision precision, const OptimConfig& optim) {
  model = std::make_unique<Transformer>(config, plan);
  engine = std::make_unique<ShardEngine>(model->units(), model_layout(model_parameters(config, plan), optim), precision,
                                         at::kCPU);
  for (const Unit& unit : model->units()) {
    for (const UnitParameter& parameter : unit.parameters) add_parameter(parameter, parameters);
  }
}

// The fixtures' formula for weights, in float64.
void FixtureModel::set_weights(const Json& rule) {
  const double scale = rule.value("scale", 0.2), norm_scale = rule.value("norm_scale", 0.1);
  const c10::NoGradGuard no_grad;
  double j = 0;  // std::map sorts names by their bytes, as the formula asks
  for (const auto& [name, parameter] : parameters) {
    const at::Tensor i = at::arange(1, parameter.value().numel() + 1, at::kDouble);
    const at::Tensor v = at::sin(i * rule.at("a").get<double>() + rule.at("b").get<double>() * ++j);
    const bool is_norm = name.find("norm") != std::string::npos || name.find("ln_f") != std::string::npos;
    parameter.set(is_norm ? v * norm_scale + 1.0 : v * scale);
  }
}

}  // namespace norma::testing
