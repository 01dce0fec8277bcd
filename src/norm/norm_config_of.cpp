#include <algorithm>
#include <limits>

#include "norma/base/text.h"
#include "norma/norm/plan.h"

#include "presets.h"

namespace norma {
namespace {

// The first norm of a plan around a branch: its kind and eps become those of the preset.
NormSite usual_norm(const NormPlan& plan) {
  NormSite first;
  for (const LayerPolicy& layer : plan.layers) {
    const auto take = [&](const LayerSite& where, const NormSite& site) {
      if (!first.present() && where.group != SiteGroup::inner) first = site;
    };
    visit_sites(take, layer);
  }
  if (first.present()) return first;
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
  for (const Preset& preset : all_presets()) {
    NormConfig config;
    config.preset = preset.name;
    if (norm.present()) {
      config.kind = norm.kind;
      config.eps = norm.eps;
    }
    config.deepnorm_ffn = plan.scaled_ffn;
    if (preset.reads_post_layers) config.post_layers = equal_leading_layers(plan);
    if (!preset.reads_span_scaling) {
      all.push_back(config);
      continue;
    }
    // init is left out: it makes the same plan as none, and a plan does not say how its weights began.
    for (const SpanScaling scaling : {SpanScaling::none, SpanScaling::branch, SpanScaling::skip}) {
      config.span.scaling = scaling;
      all.push_back(config);
    }
  }
  return all;
}

// The plan of a preset. Its problems are ignored: the edits will mend or repeat them.
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

// The edit that turns one value into another, by type.

void find_edit(const NormSite& before, const NormSite& wanted, SiteEdit& edit) {
  if (before == wanted) return;
  edit.kind = wanted.kind;
  if (!wanted.present()) return;
  edit.eps = wanted.eps;
  edit.gain_init = wanted.gain_init;
}

void find_edit(const HeadSite& before, const HeadSite& wanted, HeadSiteEdit& edit) {
  find_edit(before, wanted, static_cast<SiteEdit&>(edit));
  if (wanted.present() && before.granularity != wanted.granularity) edit.granularity = wanted.granularity;
}

template <class T>
void find_edit(const T& before, const T& wanted, std::optional<T>& edit) {
  if (before != wanted) edit = wanted;
}

constexpr auto kFindEdit = [](const auto&, const auto& before, const auto& wanted, auto& edit) {
  find_edit(before, wanted, edit);
};

LayerEdit layer_edit(const LayerPolicy& before, const LayerPolicy& wanted) {
  LayerEdit edit;
  visit_sites(kFindEdit, before, wanted, edit);
  visit_wiring_settings(kFindEdit, before.attention, wanted.attention, edit.attention);
  visit_wiring_settings(kFindEdit, before.mlp, wanted.mlp, edit.mlp);
  return edit;
}

// One edit for each run of layers that are changed in the same way.
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
  visit_outer_sites(kFindEdit, before, plan, nearest);
  edit_layers(before, plan, nearest);
  return nearest;
}

}  // namespace norma
