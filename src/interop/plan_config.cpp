#include "plan_config.h"

#include "norma/base/error.h"

namespace norma {
namespace {

template <class Edit>
Edit edit_of(const NormSite& site) {
  Edit edit;
  edit.kind = site.kind;
  if (!site.present()) return edit;
  edit.eps = site.eps;
  edit.gain_init = site.gain_init;
  return edit;
}

InnerSiteEdit edit_of(const InnerSite& site) {
  auto edit = edit_of<InnerSiteEdit>(static_cast<const NormSite&>(site));
  if (site.present()) edit.granularity = site.granularity;
  return edit;
}

WiringEdit edit_of(const ResidualWiring& wiring) {
  return {edit_of<SiteEdit>(wiring.in),
          edit_of<SiteEdit>(wiring.out),
          edit_of<SiteEdit>(wiring.sum),
          wiring.skip,
          wiring.in_gain,
          wiring.alpha,
          wiring.beta,
          wiring.branch_init_scale};
}

LayerEdit edit_of(const LayerPolicy& layer, const ModelConfig& model) {
  LayerEdit edit{edit_of(layer.attention), edit_of(layer.mlp), {}};
  edit.inner.q = edit_of(layer.inner.q);
  edit.inner.k = edit_of(layer.inner.k);
  edit.inner.v = edit_of(layer.inner.v);
  edit.inner.context = edit_of(layer.inner.context);
  if (!model.is_latent()) return edit;
  if (model.attention.q_rank) edit.inner.q_latent = edit_of<SiteEdit>(layer.inner.q_latent);
  edit.inner.kv_latent = edit_of<SiteEdit>(layer.inner.kv_latent);
  edit.inner.rope_key = edit_of<SiteEdit>(layer.inner.rope_key);
  return edit;
}

bool makes(const NormConfig& config, const ModelConfig& model, const NormPlan& plan) {
  Problems problems;
  const NormPlan made = make_norm_plan(config, model, problems);
  return problems.empty() && made == plan;
}

}  // namespace

NormConfig norm_config_of(const NormPlan& plan, const ModelConfig& model) {
  NormConfig config;
  if (plan.final.present()) {
    config.kind = plan.final.kind;
    config.eps = plan.final.eps;
  }
  config.deepnorm_ffn = plan.scaled_ffn;
  for (const std::string& preset : preset_names()) {
    config.preset = preset;
    if (makes(config, model, plan)) return config;
  }
  config.preset = "pre";
  config.embedding = edit_of<SiteEdit>(plan.embedding);
  config.final = edit_of<SiteEdit>(plan.final);
  for (std::size_t first = 0, next = 0; first < plan.layers.size(); first = next) {
    while (next < plan.layers.size() && plan.layers[next] == plan.layers[first]) ++next;
    const std::string key = next - first == 1 ? std::to_string(first) : cat(first, "-", next - 1);
    config.layers[key] = edit_of(plan.layers[first], model);
  }
  NORMA_CHECK(makes(config, model, plan), "[import] no settings make the plan\n", to_table(plan));
  return config;
}

}  // namespace norma
