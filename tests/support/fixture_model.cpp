#include "support/fixture_model.h"

#include <ATen/ATen.h>

#include "norma/base/error.h"

namespace norma::testing {
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
  };
  if (name == "embedding.weight") return "transformer.wte.weight";
  if (name == "embedding.norm.weight") return "transformer.emb_norm.weight";
  if (name == "head.norm.weight") return "transformer.ln_f.weight";
  if (name == "head.weight") return "transformer.ff_out.weight";
  const std::vector<std::string> parts = split(name, '.');  // blocks, 0, attention, qkv, weight
  NORMA_CHECK(parts.size() == 5, "[fixture] unexpected parameter ", name);
  return "transformer.blocks." + parts[1] + "." + kLeaves.at(parts[2] + "." + parts[3]) + ".weight";
}

FixtureModel::FixtureModel(const std::filesystem::path& path) : fixture(read_json(path, 1 << 24)) {
  config = fixture_config(fixture);
  plan = fixture_plan(fixture);
  model = std::make_unique<Transformer>(config, plan);
  OptimConfig optim;
  if (fixture.contains("optimizer")) {
    optim.decay_embeddings = fixture.at("optimizer").at("decay_embeddings").get<bool>();
    optim.decay_norms = fixture.at("optimizer").at("decay_norm_and_bias").get<bool>();
  }
  engine = std::make_unique<ShardEngine>(model->units(), model_layout(model_parameters(config, plan), optim),
                                         Precision::fp64, at::kCPU);
  for (const Unit& unit : model->units()) {
    for (const UnitParameter& parameter : unit.parameters) parameters[olmo_name(parameter.name)] = parameter.tensor;
  }
  const Json& rule = fixture.at("weight_rule");
  const double scale = rule.value("scale", 0.2), norm_scale = rule.value("norm_scale", 0.1);
  const c10::NoGradGuard no_grad;
  double j = 0;  // std::map sorts names as byte strings, as the rule asks
  for (auto& [name, tensor] : parameters) {
    const at::Tensor i = at::arange(1, tensor.numel() + 1, at::kDouble);
    const at::Tensor v = at::sin(i * rule.at("a").get<double>() + rule.at("b").get<double>() * ++j);
    const bool is_norm = name.find("norm") != std::string::npos || name.find("ln_f") != std::string::npos;
    tensor.copy_((is_norm ? v * norm_scale + 1.0 : v * scale).view(tensor.sizes()));
  }
  const auto rows = fixture.at("ids").get<std::vector<std::vector<std::int64_t>>>();
  std::vector<at::Tensor> stacked;
  for (const auto& row : rows) stacked.push_back(at::tensor(row, at::kLong));
  ids = at::stack(stacked);
}

}  // namespace norma::testing
