#include "edits.h"

#include <type_traits>

#include "norma/base/text.h"
#include "norma/config/layers.h"

namespace norma {
namespace {

bool changes_norm(const SiteEdit& edit) {
  return edit.eps || edit.gain_init;
}

bool changes_norm(const HeadSiteEdit& edit) {
  return edit.eps || edit.gain_init || edit.granularity;
}

// Why the model has no tensor that such a site could norm, or "".
const char* why_missing(SiteInput input, const ModelConfig& model) {
  const bool of_latent_attention =
      input == SiteInput::q_latent || input == SiteInput::kv_latent || input == SiteInput::rope_key;
  if (of_latent_attention && !model.is_latent()) {
    return "is a site of latent attention; model.attention.kind is gqa";
  }
  if (input == SiteInput::q_latent && !model.attention.q_rank) {
    return "queries have no latent to norm here; it needs model.attention.q_rank";
  }
  return "";
}

class Editor {
 public:
  // `norm` is what a site gets that an edit adds.
  Editor(const NormSite& norm, const ModelConfig& model, Problems& problems)
      : norm_(norm), model_(model), problems_(problems) {}

  template <class Edit, class Site>
  void edit_site(const Edit& edit, const std::string& key, SiteInput input, Site& site) {
    if (!edit.kind && !changes_norm(edit)) return;
    if (const std::string problem = why_missing(input, model_); !problem.empty()) return report(key, problem);
    if (edit.kind) {
      if (!site.present()) site.eps = norm_.eps, site.gain_init = 1.0;
      site.kind = *edit.kind;
    }
    if (!site.present() && changes_norm(edit)) report(key, "there is no norm here to edit; add kind: rms (or layer)");
    site.eps = edit.eps.value_or(site.eps);
    site.gain_init = edit.gain_init.value_or(site.gain_init);
    if constexpr (std::is_same_v<Site, HeadSite>) site.granularity = edit.granularity.value_or(site.granularity);
    if (edit.eps && !(site.eps >= 0.0 && site.eps < 1.0)) {
      report(key + ".eps", cat("must be at least 0 and below 1; got ", shortest(site.eps)));
    }
  }

  void edit_layer(const LayerEdit& edit, const std::string& key, LayerPolicy& layer) {
    const auto apply_to_site = [&](const LayerSite& where, const auto& site_edit, auto& site) {
      edit_site(site_edit, cat(key, ".", where.key()), where.input, site);
    };
    const auto set = [](const SettingInfo&, const auto& given, auto& value) { value = given.value_or(value); };
    visit_sites(apply_to_site, edit, layer);
    visit_wiring_settings(set, edit.attention, layer.attention);
    visit_wiring_settings(set, edit.mlp, layer.mlp);
  }

 private:
  void report(const std::string& key, const std::string& text) { problems_.push_back({key, 0, text}); }

  const NormSite& norm_;
  const ModelConfig& model_;
  Problems& problems_;
};

}  // namespace

void apply_edits(const NormConfig& config, const NormSite& norm, const ModelConfig& model, NormPlan& plan,
                 Problems& problems) {
  const auto edit_outer_site = [&](const SiteInfo& info, const SiteEdit& edit, NormSite& site) {
    Editor(norm, model, problems).edit_site(edit, cat("norm.", info.name), info.input, site);
  };
  visit_outer_sites(edit_outer_site, config, plan);
  const auto num_layers = static_cast<std::int64_t>(plan.layers.size());
  for (const LayerRange& range : layer_ranges("norm.layers", config.layers, num_layers, problems)) {
    const LayerEdit& edit = config.layers.at(range.key);
    const std::string key = cat("norm.layers.", range.key);
    if (edit.attention.skip == SkipSource::block) {
      problems.push_back({key + ".attention.skip", 0,
                          "block is for the MLP: attention's block input is the stream; allowed: stream, normed"});
    }
    for (std::int64_t l = range.first; l <= range.last; ++l) {
      Problems of_layer;
      Editor(norm, model, of_layer).edit_layer(edit, key, plan.layers[static_cast<std::size_t>(l)]);
      if (l == range.first) append(problems, of_layer);
    }
  }
}

}  // namespace norma
