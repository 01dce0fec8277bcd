// The initial draw (model/init.h) into an engine's storage.
#pragma once

#include "norma/config/config.h"
#include "norma/norm/plan.h"
#include "norma/parallel/shard_engine.h"

namespace norma {

// Threaded, on the CPU, by (run.seed, parameter name, element index); each rank only the ranges it owns.
void draw_initial_weights(const RunConfig& config, const NormPlan& norms, ShardEngine& engine);

}  // namespace norma
