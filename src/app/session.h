// The composition root: model, storage and optimizer of one process, built from a config.
#pragma once

#include <memory>

#include "norma/config/config.h"
#include "norma/model/transformer.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/shard_engine.h"

namespace norma {

struct Session {
  at::Device device = at::kCPU;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;
  std::unique_ptr<AdamW> optimizer;  // null when the session does not train
};

// Weights are zero until the engine is filled. `world` outlives the session.
Session make_session(const RunConfig& config, const NormPlan& norms, at::Device device, Purpose purpose,
                     const World& world);

}  // namespace norma
