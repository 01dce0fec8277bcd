// A plan out of a config: a preset, the norms of latent attention, then the edits.
#include <cmath>

#include "norma/base/text.h"
#include "norma/norm/plan.h"

#include "edits.h"
#include "latent.h"
#include "presets.h"

namespace norma {
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
             " would be Pre-Norm; raise norm.mix_alpha, or write norm.post_layers: 0 if that is meant")});
  }
  return k;
}

PresetOptions preset_options(const NormConfig& config, const Preset& preset, std::int64_t num_layers,
                             Problems& problems) {
  PresetOptions options;
  options.norm = {config.kind, config.eps, 1.0};
  options.num_layers = num_layers;
  options.span_scaling = config.span.scaling;
  if (preset.reads_post_layers) {
    options.post_layers = mix_post_layers(config, num_layers, problems);
  } else if (config.post_layers) {
    problems.push_back(
        {"norm.post_layers", 0, cat("is for the presets mix and mix_shifted; norm.preset is '", config.preset, "'")});
  }
  return options;
}

// What stands for a preset that does not exist, so that the rest of a config is still checked: no norms.
Preset unknown_preset(const std::string& name, Problems& problems) {
  std::vector<std::string> whole_names;
  for (const Preset& preset : named_presets()) whole_names.push_back(preset.name);
  problems.push_back(
      {"norm.preset", 0,
       cat("unknown preset '", name, "'", did_you_mean(name, preset_names()), "; allowed: ", join(whole_names, ", "),
           ", or an ablation <attention>[_<ffn>] with attention pre, post, INNER or pre_INNER, INNER qk, kv, kc, qkv, "
           "qkc or qkvc, and ffn pre or post")});
  const auto make = [](const PresetOptions& options) {
    NormPlan plan;
    plan.layers.resize(static_cast<std::size_t>(options.num_layers));
    return plan;
  };
  return {.name = name, .make = make};
}

}  // namespace

NormPlan make_norm_plan(const NormConfig& config, const ModelConfig& model, Problems& problems) {
  const Preset* const known = find_preset(config.preset);
  const Preset preset = known != nullptr ? *known : unknown_preset(config.preset, problems);
  const PresetOptions options = preset_options(config, preset, model.num_layers, problems);
  if (config.kind == NormKind::none) {
    problems.push_back({"norm.kind", 0, "the preset's norms must be rms or layer; got none"});
  }
  NormPlan plan = preset.make(options);
  plan.scaled_ffn = config.deepnorm_ffn;
  if (model.is_latent()) place_latent_norms(options.norm, model, preset.norms_whole_keys, plan);
  apply_edits(config, options.norm, model, plan, problems);
  if (model.is_latent()) check_latent_norms(config, plan, problems);
  return plan;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : all_presets()) names.push_back(preset.name);
  return names;
}

}  // namespace norma
