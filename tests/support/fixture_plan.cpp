#include "support/fixture_plan.h"

namespace norma::testing {
namespace {

NormSite site_of(const Json& present, double eps) {
  return {present.get<bool>() ? NormKind::rms : NormKind::none, eps, 1.0};
}

HeadSite inner_of(const Json& text, double eps) {
  HeadSite site;
  const std::string word = text.get<std::string>();
  site.kind = word == "none" ? NormKind::none : NormKind::rms;
  site.eps = eps;
  site.granularity = word == "whole" ? Granularity::whole : Granularity::per_head;
  return site;
}

ResidualWiring wiring_of(const Json& text, bool is_attention, double eps) {
  ResidualWiring w;
  visit_wiring_sites([&](const SiteInfo& info, NormSite& site) { site = site_of(text.at(info.name), eps); }, w);
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
  if (const Json& moe = m.at("moe"); !moe.is_null()) {
    config.mlp = MlpKind::moe;
    config.moe.num_experts = moe.at("num_experts").get<std::int64_t>();
    config.moe.top_k = moe.at("top_k").get<std::int64_t>();
    config.moe.expert_dim = moe.at("ffn_dim").get<std::int64_t>();
    config.moe.balance_loss = moe.at("load_balancing_weight").get<double>();
    config.moe.z_loss = moe.at("router_z_weight").get<double>();
  }
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
                           {.q = inner_of(inner.at("q"), eps),
                            .k = inner_of(inner.at("k"), eps),
                            .v = inner_of(inner.at("v"), eps),
                            .context = inner_of(inner.at("context"), eps)}});
  }
  return plan;
}

}  // namespace norma::testing
