#include "support/rank_model.h"

#include "norma/model/init.h"
#include "norma/model/parameters.h"

#include "support/tiny_model.h"

namespace norma::testing {
namespace {

WorldOptions world_options(const LaunchEnvironment& launch, const Degrees& degrees) {
  return {launch, at::kCPU, degrees.shard, degrees.replicate, Seconds(60), Seconds(60), Seconds(1)};
}

EnginePolicy policy_of(const RunConfig& config, int world_size, const Layout& layout, bool poison_released) {
  EnginePolicy policy = engine_policy(config.parallel, world_size, layout);
  policy.poison_released = poison_released;
  return policy;
}

}  // namespace

RankModel::RankModel(const RunConfig& given, const LaunchEnvironment& launch, bool poison_released)
    : config(given),
      plan(plan_of(config.norm, config.model)),
      layout(model_layout(model_parameters(config.model, plan), config.optim, config.train.freeze)),
      degrees(mesh_degrees(config.parallel, launch)),
      world(world_options(launch, degrees)),
      model(config.model, plan),
      policy(policy_of(config, launch.world_size, layout, poison_released)),
      engine(model.units(), layout, config.precision, at::kCPU, Purpose::training, world.mesh(), policy),
      optimizer(engine.flat_units(), config.optim) {
  engine.fill(InitialWeights(config, plan));
}

}  // namespace norma::testing
