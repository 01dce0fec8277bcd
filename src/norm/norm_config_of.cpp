#include "norma/norm/norm_config_of.h"

#include <algorithm>
#include <limits>

#include "norma/base/text.h"

namespace norma {
namespace {

// The first norm of a plan: its kind and eps become those of the preset.
NormSite usual_norm(const NormPlan& plan) {
  for (const LayerPolicy& layer : plan.layers) {
    for (const ResidualWiring* wiring : {&layer.attention, &layer.mlp}) {
      for (const NormSite* site : {&wiring->in, &wiring->out, &wiring->sum}) {
        if (site->present()) return *site;
      }
    }
  }
  return plan.final.present() ? plan.final : plan.embedding;
}

std::int64_t equal_leading_layers(const NormPlan& plan) {
  std::int64_t count = 0;
  for (const LayerPolicy& layer : plan.layers) {
    if (!(layer == plan.layers[0])) break;
    ++count;
  }
  return count;
}

// Presets without edits, in the order in which they are preferred.
std::vector<NormConfig> candidates(const NormPlan& plan) {
  std::vector<NormConfig> all;
  const NormSite norm = usual_norm(plan);
  for (const std::string& name : preset_names()) {
    NormConfig config;
    config.preset = name;
    if (norm.present()) {
      config.kind = norm.kind;
      config.eps = norm.eps;
    }
    config.deepnorm_ffn = plan.scaled_ffn;
    if (name.starts_with("mix")) config.post_layers = equal_leading_layers(plan);
    // A plan does not say how its weights began: none, which makes the same plan as init.
    if (name == "span") config.span.scaling = SpanScaling::none;
    all.push_back(config);
    if (name != "span") continue;
    for (const SpanScaling scaling : {SpanScaling::branch, SpanScaling::skip}) {
      config.span.scaling = scaling;
      all.push_back(config);
    }
  }
  return all;
}

// What make_norm_plan makes of a preset; problems are those of the plan, which the edits will mend or repeat.
NormPlan plan_before_edits(const NormConfig& config, const ModelConfig& model) {
  Problems ignored;
  return make_norm_plan(config, model, ignored);
}

std::int64_t differences(const NormPlan& a, const NormPlan& b) {
  std::int64_t count = (a.embedding == b.embedding ? 0 : 1) + (a.final == b.final ? 0 : 1);
  for (std::size_t l = 0; l < a.layers.size(); ++l) {
    count += (a.layers[l].attention == b.layers[l].attention ? 0 : 1) + (a.layers[l].mlp == b.layers[l].mlp ? 0 : 1) +
             (a.layers[l].inner == b.layers[l].inner ? 0 : 1);
  }
  return count;
}

template <class Edit>
Edit site_edit(const NormSite& before, const NormSite& wanted) {
  Edit edit;
  if (before == wanted) return edit;
  edit.kind = wanted.kind;
  if (!wanted.present()) return edit;
  edit.eps = wanted.eps;
  edit.gain_init = wanted.gain_init;
  return edit;
}

InnerSiteEdit inner_edit(const InnerSite& before, const InnerSite& wanted) {
  InnerSiteEdit edit = site_edit<InnerSiteEdit>(before, wanted);
  if (wanted.present() && before.granularity != wanted.granularity) edit.granularity = wanted.granularity;
  return edit;
}

template <class T>
std::optional<T> if_changed(const T& before, const T& wanted) {
  return before == wanted ? std::nullopt : std::optional(wanted);
}

WiringEdit wiring_edit(const ResidualWiring& before, const ResidualWiring& wanted) {
  WiringEdit edit;
  edit.in = site_edit<SiteEdit>(before.in, wanted.in);
  edit.out = site_edit<SiteEdit>(before.out, wanted.out);
  edit.sum = site_edit<SiteEdit>(before.sum, wanted.sum);
  edit.skip = if_changed(before.skip, wanted.skip);
  edit.in_gain = if_changed(before.in_gain, wanted.in_gain);
  edit.alpha = if_changed(before.alpha, wanted.alpha);
  edit.beta = if_changed(before.beta, wanted.beta);
  edit.branch_init_scale = if_changed(before.branch_init_scale, wanted.branch_init_scale);
  return edit;
}

LayerEdit layer_edit(const LayerPolicy& before, const LayerPolicy& wanted) {
  LayerEdit edit;
  edit.attention = wiring_edit(before.attention, wanted.attention);
  edit.mlp = wiring_edit(before.mlp, wanted.mlp);
  const InnerNorms &a = before.inner, &b = wanted.inner;
  edit.inner.q = inner_edit(a.q, b.q);
  edit.inner.k = inner_edit(a.k, b.k);
  edit.inner.v = inner_edit(a.v, b.v);
  edit.inner.context = inner_edit(a.context, b.context);
  edit.inner.q_latent = site_edit<SiteEdit>(a.q_latent, b.q_latent);
  edit.inner.kv_latent = site_edit<SiteEdit>(a.kv_latent, b.kv_latent);
  edit.inner.rope_key = site_edit<SiteEdit>(a.rope_key, b.rope_key);
  return edit;
}

// Edits by runs of layers that are changed alike.
void edit_layers(const NormPlan& before, const NormPlan& wanted, NormConfig& config) {
  const std::size_t count = wanted.layers.size();
  for (std::size_t first = 0, end = 0; first < count; first = end) {
    const LayerPolicy &from = before.layers[first], &to = wanted.layers[first];
    while (end < count && before.layers[end] == from && wanted.layers[end] == to) ++end;
    if (from == to) continue;
    const bool all = first == 0 && end == count;
    const std::string key = all ? "all" : end - first == 1 ? cat(first) : cat(first, "-", end - 1);
    config.layers[key] = layer_edit(from, to);
  }
}

}  // namespace

NormConfig norm_config_of(const NormPlan& plan, const ModelConfig& model) {
  NormConfig nearest;
  NormPlan before;
  std::int64_t fewest = std::numeric_limits<std::int64_t>::max();
  for (const NormConfig& config : candidates(plan)) {
    const NormPlan of_preset = plan_before_edits(config, model);
    const std::int64_t count = differences(of_preset, plan);
    if (count >= fewest) continue;
    fewest = count;
    nearest = config;
    before = of_preset;
  }
  nearest.embedding = site_edit<SiteEdit>(before.embedding, plan.embedding);
  nearest.final = site_edit<SiteEdit>(before.final, plan.final);
  edit_layers(before, plan, nearest);
  return nearest;
}

}  // namespace norma
