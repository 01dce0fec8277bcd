// A model out of a checkpoint: its own config says what it is.
#pragma once

#include <functional>
#include <string>

#include "norma/base/file.h"
#include "norma/checkpoint/manifest.h"

#include "session.h"

namespace norma {

// `path` is a checkpoint folder, or a run folder (its newest complete checkpoint). Throws CheckpointError.
fs::path find_checkpoint(const std::string& path);

struct CheckpointModel {
  fs::path folder;
  RunConfig config;
  Session session;
};

// Builds the model of a checkpoint with its weights, on `device`, without an optimizer. `adjust` may change settings
// first, as long as the weights still fit.
CheckpointModel load_checkpoint_model(const std::string& path, Device device, std::int64_t threads,
                                      const std::function<void(RunConfig&)>& adjust = {});

// The config a manifest carries, checked as a config file is.
RunConfig config_of(const Manifest& manifest, const fs::path& folder, NormPlan& norms);

}  // namespace norma
