// Typed edits from YAML on top of a preset.
#pragma once

#include "norma/norm/plan.h"

namespace norma {

// Applies norm.embedding, norm.final and norm.layers. `norm` is what a site gets that an edit adds.
void apply_edits(const NormConfig& config, const NormSite& norm, const ModelConfig& model, NormPlan& plan,
                 Problems& problems);

}  // namespace norma
