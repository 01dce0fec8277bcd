// The presets: functions of depth that return a plan. Equations: README, "Placements"; sources beside each.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "norma/norm/plan.h"

namespace norma {

// What a preset may depend on.
struct PresetOptions {
  NormSite norm;  // the norm put at every site: kind and eps
  std::int64_t num_layers = 0;
  std::int64_t post_layers = 0;  // mix, mix_shifted
  SpanScaling span_scaling = SpanScaling::init;
};

using Preset = NormPlan (*)(const PresetOptions&);

// A preset by its whole name, or nullptr.
Preset find_preset(const std::string& name);
std::vector<std::string> whole_preset_names();

// An ablation row of the HybridNorm paper (appendix G), <attention>[_<ffn>]; nullopt when the name is not of
// that form.
std::optional<NormPlan> ablation_plan(const std::string& name, const PresetOptions& options);
std::vector<std::string> ablation_names();

}  // namespace norma
