#include "norma/norm/plan.h"

#include <cmath>

#include "norma/base/text.h"

#include "edits.h"
#include "latent.h"
#include "presets.h"

namespace norma {

bool NormSite::operator==(const NormSite& other) const {
  if (!present() && !other.present()) return true;
  return kind == other.kind && eps == other.eps && gain_init == other.gain_init;
}

bool InnerSite::operator==(const InnerSite& other) const {
  return static_cast<const NormSite&>(*this) == other && (!present() || granularity == other.granularity);
}

bool NormPlan::operator==(const NormPlan& other) const {
  return embedding == other.embedding && layers == other.layers && final == other.final &&
         scaled_ffn == other.scaled_ffn;
}

namespace {

// Number of leading Post-Norm layers of Mix-LN: k = floor(alpha * L), or what post_layers says.
std::int64_t mix_post_layers(const NormConfig& config, std::int64_t num_layers, Problems& problems) {
  if (config.post_layers) {
    if (*config.post_layers < 0 || *config.post_layers > num_layers) {
      problems.push_back(
          {"norm.post_layers", 0,
           cat("must lie between 0 and model.num_layers = ", num_layers, "; got ", *config.post_layers)});
      return 0;
    }
    return *config.post_layers;
  }
  const double layers = config.mix_alpha * static_cast<double>(num_layers);
  const auto k = static_cast<std::int64_t>(std::floor(layers));
  if (k == 0) {
    problems.push_back(
        {"norm.mix_alpha", 0,
         cat("floor(", shortest(config.mix_alpha), " * ", num_layers, " layers) is 0, so ", config.preset,
             " would be Pre-Norm; raise norm.mix_alpha or write norm.post_layers: 0 if that is meant")});
  }
  return k;
}

PresetOptions preset_options(const NormConfig& config, std::int64_t num_layers, Problems& problems) {
  PresetOptions options;
  options.norm = {config.kind, config.eps, 1.0};
  options.num_layers = num_layers;
  options.span_scaling = config.span.scaling;
  if (config.preset == "mix" || config.preset == "mix_shifted") {
    options.post_layers = mix_post_layers(config, num_layers, problems);
  } else if (config.post_layers) {
    problems.push_back(
        {"norm.post_layers", 0, cat("is for the presets mix and mix_shifted; norm.preset is '", config.preset, "'")});
  }
  if (config.kind == NormKind::none) {
    problems.push_back({"norm.kind", 0, "the preset's norms must be rms or layer; got none"});
  }
  return options;
}

}  // namespace

NormPlan make_norm_plan(const NormConfig& config, const ModelConfig& model, Problems& problems) {
  const std::int64_t num_layers = model.num_layers;
  const PresetOptions options = preset_options(config, num_layers, problems);
  NormPlan plan;
  if (const Preset preset = find_preset(config.preset)) {
    plan = preset(options);
  } else if (auto ablation = ablation_plan(config.preset, options)) {
    plan = *ablation;
  } else {
    problems.push_back({"norm.preset", 0,
                        cat("unknown preset '", config.preset, "'", did_you_mean(config.preset, preset_names()),
                            "; allowed: ", join(whole_preset_names(), ", "),
                            ", or an ablation <attention>[_<ffn>] with attention pre, post, INNER or pre_INNER, INNER "
                            "qk, kv, kc, qkv, qkc or qkvc, and ffn pre or post")});
    plan.layers.resize(static_cast<std::size_t>(num_layers));
  }
  plan.scaled_ffn = config.deepnorm_ffn;
  if (model.is_latent()) place_latent_norms(options.norm, model, plan);
  apply_edits(config, options.norm, model, plan, problems);
  if (model.is_latent()) check_latent_norms(config, plan, problems);
  return plan;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names = whole_preset_names();
  for (const std::string& name : ablation_names()) {
    if (!find_preset(name)) names.push_back(name);
  }
  return names;
}

InnerWidths inner_widths(const InnerNorms& inner, const ModelConfig& model) {
  const auto width = [](const InnerSite& site, std::int64_t heads, std::int64_t of_head) {
    return site.granularity == Granularity::per_head ? of_head : heads * of_head;
  };
  const bool shared_key_apart = model.is_latent() && inner.rope_key.present();
  const std::int64_t key = shared_key_apart ? model.nope_dim() : model.head_width();
  InnerWidths widths;
  widths.q = width(inner.q, model.num_heads, model.head_width());
  widths.k = width(inner.k, model.kv_heads(), key);
  widths.v = width(inner.v, model.kv_heads(), model.value_width());
  widths.context = width(inner.context, model.num_heads, model.value_width());
  widths.q_latent = model.q_rank();
  widths.kv_latent = model.kv_rank();
  widths.rope_key = model.rope_dim();
  return widths;
}

std::vector<NormParameter> norm_parameters(const NormPlan& plan, const ModelConfig& model) {
  std::vector<NormParameter> all;
  const auto add = [&](const std::string& name, const NormSite& site, std::int64_t width) {
    if (site.present()) all.push_back({name + ".weight", width, site});
  };
  add("embedding.norm", plan.embedding, model.d_model);
  for (std::size_t l = 0; l < plan.layers.size(); ++l) {
    const LayerPolicy& layer = plan.layers[l];
    const auto add_wiring = [&](const std::string& name, const ResidualWiring& wiring) {
      add(name + ".norm_in", wiring.in, model.d_model);
      add(name + ".norm_out", wiring.out, model.d_model);
      add(name + ".norm_sum", wiring.sum, model.d_model);
    };
    const std::string attention = cat("blocks.", l, ".attention");
    add_wiring(attention, layer.attention);
    const InnerWidths widths = inner_widths(layer.inner, model);
    add(attention + ".norm_q_latent", layer.inner.q_latent, widths.q_latent);
    add(attention + ".norm_kv_latent", layer.inner.kv_latent, widths.kv_latent);
    add(attention + ".norm_rope_key", layer.inner.rope_key, widths.rope_key);
    add(attention + ".norm_q", layer.inner.q, widths.q);
    add(attention + ".norm_k", layer.inner.k, widths.k);
    add(attention + ".norm_v", layer.inner.v, widths.v);
    add(attention + ".norm_context", layer.inner.context, widths.context);
    add_wiring(cat("blocks.", l, ".mlp"), layer.mlp);
  }
  add("head.norm", plan.final, model.d_model);
  return all;
}

}  // namespace norma
