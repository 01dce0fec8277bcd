#include "norma/base/error.h"
#include "norma/config/names.h"
#include "norma/parallel/sharding.h"

namespace norma {
namespace {

int replicas_of(const ParallelConfig& config, const LaunchEnvironment& launch) {
  const int world = launch.world_size;
  const int nodes = std::max(1, world / std::max(1, launch.local_world_size));
  const auto replicas = static_cast<int>(config.replicas.value_or(nodes));
  if (replicas > world || world % replicas != 0) {
    throw ConfigError(cat("[parallel.replicas] must divide the number of processes, ", world, "; got ", replicas));
  }
  return replicas;
}

}  // namespace

Strategy effective_strategy(const ParallelConfig& config, int world_size) {
  if (config.strategy != Strategy::automatic) return config.strategy;
  return world_size == 1 ? Strategy::single : Strategy::full_shard;
}

Degrees mesh_degrees(const ParallelConfig& config, const LaunchEnvironment& launch) {
  const int world = launch.world_size;
  switch (effective_strategy(config, world)) {
    case Strategy::single:
      if (world == 1) return {};
      throw ConfigError(cat("[parallel.strategy] single is for one process; ", launcher_name(launch.launcher),
                            " started ", world, ". Allowed: ddp, full_shard, shard_grad_op, hybrid, auto"));
    case Strategy::ddp:
      return {1, world};
    case Strategy::hybrid: {
      const int replicas = replicas_of(config, launch);
      return {world / replicas, replicas};
    }
    default:
      return {world, 1};
  }
}

EnginePolicy engine_policy(const ParallelConfig& config, int world_size, const Layout& layout) {
  const Strategy strategy = effective_strategy(config, world_size);
  EnginePolicy policy;
  policy.reshard_after_forward = strategy == Strategy::full_shard || strategy == Strategy::hybrid;
  policy.reduce_every_micro_batch = config.reduce == ReducePolicy::automatic
                                        ? policy.reshard_after_forward
                                        : config.reduce == ReducePolicy::every_micro_batch;
  policy.reduce_in_bf16 = config.reduce_dtype == ReduceDtype::bf16;
  policy.recompute_inputs = config.recompute == Recompute::selective;
  std::int64_t block = 0;
  for (const UnitLayout& unit : layout.units) {
    policy.recompute.push_back(unit.role == UnitRole::block && config.recomputes_block(block++));
  }
  return policy;
}

}  // namespace norma
