// The presets: functions of depth that return a plan, and what is known of each.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "norma/norm/plan.h"

namespace norma {

// What a preset may depend on.
struct PresetOptions {
  NormSite norm;  // the norm that is put at every site: kind and eps
  std::int64_t num_layers = 0;
  std::int64_t post_layers = 0;
  SpanScaling span_scaling = SpanScaling::init;
};

struct Preset {
  std::string name;
  std::function<NormPlan(const PresetOptions&)> make;
  bool reads_post_layers = false;
  bool reads_span_scaling = false;

  // How it norms keys in latent attention, if it does: true, k norms each key whole; false, rope_key norms the shared
  // part and k the other one (see norms_whole_keys() of a plan). Unless the shared part has a norm of its own,
  // attention depends on the length of its input; only QK-Norm on a normed input can do without.
  bool norms_whole_keys = false;
};

// Presets with names of their own.
const std::vector<Preset>& named_presets();

// These, and then the ablation rows of the HybridNorm paper (appendix G): <attention>[_<ffn>].
const std::vector<Preset>& all_presets();

const Preset* find_preset(const std::string& name);  // null when there is none

}  // namespace norma
