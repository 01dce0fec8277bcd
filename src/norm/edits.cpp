#include "edits.h"

#include "norma/base/text.h"
#include "norma/config/layers.h"

namespace norma {
namespace {

// An added norm takes kind's eps from norm.eps and gain 1; editing a norm that is not there is a mistake.
template <class Edit>
void edit_site(const Edit& edit, const NormSite& norm, const std::string& key, NormSite& site, Problems& problems) {
  if (edit.kind) {
    const bool was_absent = !site.present();
    site.kind = *edit.kind;
    if (was_absent) {
      site.eps = norm.eps;
      site.gain_init = 1.0;
    }
  }
  if (!site.present() && (edit.eps || edit.gain_init)) {
    problems.push_back({key, 0, "there is no norm here to edit; add kind: rms (or layer)"});
  }
  if (edit.eps) site.eps = *edit.eps;
  if (edit.gain_init) site.gain_init = *edit.gain_init;
  if (edit.eps && !(site.eps >= 0.0 && site.eps < 1.0)) {
    problems.push_back({key + ".eps", 0, cat("must be at least 0 and below 1; got ", shortest(site.eps))});
  }
}

void edit_inner(const InnerSiteEdit& edit, const NormSite& norm, const std::string& key, InnerSite& site,
                Problems& problems) {
  edit_site(edit, norm, key, site, problems);
  if (edit.granularity && !site.present() && !edit.eps && !edit.gain_init) {
    problems.push_back({key, 0, "there is no norm here to edit; add kind: rms (or layer)"});
  }
  if (edit.granularity) site.granularity = *edit.granularity;
}

void edit_wiring(const WiringEdit& edit, const NormSite& norm, const std::string& key, ResidualWiring& wiring,
                 Problems& problems) {
  edit_site(edit.in, norm, key + ".in", wiring.in, problems);
  edit_site(edit.out, norm, key + ".out", wiring.out, problems);
  edit_site(edit.sum, norm, key + ".sum", wiring.sum, problems);
  wiring.skip = edit.skip.value_or(wiring.skip);
  wiring.in_gain = edit.in_gain.value_or(wiring.in_gain);
  wiring.alpha = edit.alpha.value_or(wiring.alpha);
  wiring.beta = edit.beta.value_or(wiring.beta);
  wiring.branch_init_scale = edit.branch_init_scale.value_or(wiring.branch_init_scale);
}

bool is_set(const SiteEdit& edit) {
  return edit.kind || edit.eps || edit.gain_init;
}

// The sites that only latent attention has.
void edit_latent(const InnerEdit& edit, const NormSite& norm, const ModelConfig& model, const std::string& key,
                 InnerNorms& inner, Problems& problems) {
  const auto apply = [&](const char* name, const SiteEdit& given, NormSite& site) {
    const bool without_rank = &given == &edit.q_latent && !model.attention.q_rank;
    if (!is_set(given)) return;
    if (!model.is_latent()) {
      problems.push_back({key + name, 0, "is a site of latent attention; model.attention.kind is gqa"});
    } else if (without_rank) {
      problems.push_back({key + name, 0, "queries have no latent to norm here; it needs model.attention.q_rank"});
    } else {
      edit_site(given, norm, key + name, site, problems);
    }
  };
  apply(".q_latent", edit.q_latent, inner.q_latent);
  apply(".kv_latent", edit.kv_latent, inner.kv_latent);
  apply(".rope_key", edit.rope_key, inner.rope_key);
}

void edit_layer(const LayerEdit& edit, const NormSite& norm, const ModelConfig& model, const std::string& key,
                LayerPolicy& layer, Problems& problems) {
  edit_wiring(edit.attention, norm, key + ".attention", layer.attention, problems);
  edit_wiring(edit.mlp, norm, key + ".mlp", layer.mlp, problems);
  edit_inner(edit.inner.q, norm, key + ".inner.q", layer.inner.q, problems);
  edit_inner(edit.inner.k, norm, key + ".inner.k", layer.inner.k, problems);
  edit_inner(edit.inner.v, norm, key + ".inner.v", layer.inner.v, problems);
  edit_inner(edit.inner.context, norm, key + ".inner.context", layer.inner.context, problems);
  edit_latent(edit.inner, norm, model, key + ".inner", layer.inner, problems);
}

}  // namespace

void apply_edits(const NormConfig& config, const NormSite& norm, const ModelConfig& model, NormPlan& plan,
                 Problems& problems) {
  edit_site(config.embedding, norm, "norm.embedding", plan.embedding, problems);
  edit_site(config.final, norm, "norm.final", plan.final, problems);
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
      edit_layer(edit, norm, model, key, plan.layers[static_cast<std::size_t>(l)], of_layer);
      if (l == range.first) append(problems, of_layer);
    }
  }
}

}  // namespace norma
