// A model with its engine and optimizer as one rank of a mesh holds them, with drawn weights.
#pragma once

#include "norma/config/config.h"
#include "norma/model/transformer.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/shard_engine.h"
#include "norma/parallel/sharding.h"
#include "norma/train/train_step.h"

namespace norma::testing {

struct RankModel {
  RankModel(const RunConfig& given, const LaunchEnvironment& launch, bool poison_released = false);

  RunConfig config;
  NormPlan plan;
  Layout layout;
  Degrees degrees;
  World world;
  Transformer model;
  EnginePolicy policy;
  ShardEngine engine;
  AdamW optimizer;

  StepParts step_parts() {
    return {.model = model, .runner = engine, .engine = engine, .optimizer = optimizer, .peers = world};
  }
};

}  // namespace norma::testing
