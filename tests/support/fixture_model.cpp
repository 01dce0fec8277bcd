#include "support/fixture_model.h"

#include <ATen/ATen.h>

#include "norma/base/error.h"

namespace norma::testing {
namespace {

NormSite site_of(const Json& present, double eps) {
  return {present.get<bool>() ? NormKind::rms : NormKind::none, eps, 1.0};
}

InnerSite inner_of(const Json& text, double eps) {
  InnerSite site;
  const std::string word = text.get<std::string>();
  site.kind = word == "none" ? NormKind::none : NormKind::rms;
  site.eps = eps;
  site.granularity = word == "whole" ? Granularity::whole : Granularity::per_head;
  return site;
}

ResidualWiring wiring_of(const Json& text, bool is_attention, double eps) {
  ResidualWiring w;
  w.in = site_of(text.at("in"), eps);
  w.out = site_of(text.at("out"), eps);
  w.sum = site_of(text.at("sum"), eps);
  const std::string skip = text.at("skip").get<std::string>();
  w.skip = skip == "normed" ? SkipSource::normed : SkipSource::stream;
  if (skip == "block" && !is_attention) w.skip = SkipSource::block;  // attention's block input is the stream
  w.in_gain = text.at("in_gain").get<double>();
  w.alpha = text.at("alpha").get<double>();
  w.beta = text.at("beta").get<double>();
  return w;
}

}  // namespace

ModelConfig fixture_config(const Json& fixture) {
  const Json& m = fixture.at("model");
  ModelConfig config;
  config.d_model = m.at("d_model").get<std::int64_t>();
  config.num_layers = m.at("num_layers").get<std::int64_t>();
  config.num_heads = m.at("num_heads").get<std::int64_t>();
  config.num_kv_heads = m.at("num_kv_heads").get<std::int64_t>();
  config.mlp_dim = m.at("ffn_dim").get<std::int64_t>();
  config.vocab_size = m.at("vocab_size").get<std::int64_t>();
  config.embedding_rows = m.at("embedding_rows").get<std::int64_t>();
  config.tie_embeddings = m.at("tie_embeddings").get<bool>();
  config.rope_theta = m.at("rope_theta").get<double>();
  config.sequence_length = static_cast<std::int64_t>(fixture.at("ids").at(0).size());
  return config;
}

NormPlan fixture_plan(const Json& fixture) {
  const double eps = fixture.at("model").at("norm_eps").get<double>();
  NormPlan plan;
  plan.embedding = site_of(fixture.at("embed_norm"), eps);
  plan.final = site_of(fixture.at("final_norm"), eps);
  for (const Json& layer : fixture.at("layers")) {
    const Json& inner = layer.at("inner");
    plan.layers.push_back({wiring_of(layer.at("attention"), true, eps),
                           wiring_of(layer.at("mlp"), false, eps),
                           {inner_of(inner.at("q"), eps), inner_of(inner.at("k"), eps),
                            inner_of(inner.at("v"), eps), inner_of(inner.at("context"), eps)}});
  }
  return plan;
}

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
    for (const UnitParameter& parameter : unit.parameters)
      parameters[olmo_name(parameter.name)] = parameter.tensor;
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
