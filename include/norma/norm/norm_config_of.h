// Back from a plan to a config: for models that come with their plan as data.
#pragma once

#include "norma/norm/plan.h"

namespace norma {

// A config that make_norm_plan turns into this plan again: the preset that is nearest, and edits of what it places
// otherwise, by layer. `model` is as for make_norm_plan. Defined for every plan that make_norm_plan can return; of
// others (attention with skip = block, say) the config has the same problems as they have.
NormConfig norm_config_of(const NormPlan& plan, const ModelConfig& model);

}  // namespace norma
