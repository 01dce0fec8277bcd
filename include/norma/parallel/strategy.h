// What parallel.strategy means: degrees of the mesh and a policy of the engine.
#pragma once

#include "norma/parallel/launch.h"
#include "norma/parallel/shard_engine.h"

namespace norma {

struct Degrees {
  int shard = 1, replicate = 1;  // their product is the number of processes
};

// Throws ConfigError when strategy, replicas and the number of processes do not fit.
Degrees mesh_degrees(const ParallelConfig& config, const LaunchEnvironment& launch);

// auto resolved: single for one process, full_shard for more.
Strategy effective_strategy(const ParallelConfig& config, int world_size);

EnginePolicy engine_policy(const ParallelConfig& config, int world_size, const Layout& layout);

}  // namespace norma
