// A placement as the settings that make it.
#pragma once

#include "norma/config/config.h"
#include "norma/norm/plan.h"

namespace norma {

// Settings from which make_norm_plan() makes this plan again: a preset where one gives it, else Pre-Norm with edits of
// layers. The final norm's kind and eps, where there is one, are those of the settings.
NormConfig norm_config_of(const NormPlan& plan, const ModelConfig& model);

}  // namespace norma
