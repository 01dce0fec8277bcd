// What latent attention adds to a preset's plan, and what it cannot do. See norms_whole_keys().
#pragma once

#include "norma/norm/plan.h"

namespace norma {

// Puts norms on the latents and, where the preset norms keys in two parts, on the part that all heads share. `norm` is
// the preset's norm, `whole_keys` whether its k norms keys whole.
void place_latent_norms(const NormSite& norm, const ModelConfig& model, bool whole_keys, NormPlan& plan);

// Reports norms that latent attention, or its decoding from cached latents, cannot have.
void check_latent_norms(const NormConfig& config, const NormPlan& plan, Problems& problems);

}  // namespace norma
