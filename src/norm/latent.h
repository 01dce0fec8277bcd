// What latent attention asks of a plan; see InnerNorms.
#pragma once

#include "norma/norm/plan.h"

namespace norma {

// The norms on the latents and, where the preset norms keys, on the shared key. `norm` is the preset's norm.
void place_latent_norms(const NormSite& norm, const ModelConfig& model, NormPlan& plan);

// Refuses what latent attention cannot do, or what its cache could not hold.
void check_latent_norms(const NormConfig& config, const NormPlan& plan, Problems& problems);

}  // namespace norma
