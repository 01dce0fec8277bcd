// Models in memory, with the weights of a checkpoint or of a folder of Hugging Face transformers.
#pragma once

#include <functional>
#include <string>

#include "norma/interop/model_source.h"
#include "norma/train/session.h"

namespace norma {

// The model on `device`, without an optimizer. Every byte of a checkpoint is checked. `world` outlives the session.
Session load_model(const ModelSource& source, at::Device device, const World& world);

struct CheckpointModel {
  fs::path folder;
  RunConfig config;
  Session session;
};

// Finds a model, starts the runtime and loads the model in this process alone. `adjust` may change settings first, as
// long as the weights still fit.
CheckpointModel load_checkpoint_model(const std::string& path, Device device, std::int64_t threads,
                                      const std::function<void(RunConfig&)>& adjust = {});

}  // namespace norma
