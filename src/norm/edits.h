// The edits of a config on top of a preset.
#pragma once

#include "norma/norm/plan.h"

namespace norma {

// Applies norm.embedding, norm.final and norm.layers to the plan. A site where an edit adds a norm gets the eps of
// `norm`.
void apply_edits(const NormConfig& config, const NormSite& norm, const ModelConfig& model, NormPlan& plan,
                 Problems& problems);

}  // namespace norma
