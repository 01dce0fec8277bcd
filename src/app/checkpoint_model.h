// A model with its weights, out of a checkpoint or a folder of Hugging Face transformers, which say what it is.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "norma/base/file.h"
#include "norma/checkpoint/manifest.h"
#include "norma/interop/hf_folder.h"

#include "session.h"

namespace norma {

// `path` is a checkpoint folder, or a run folder (its newest complete checkpoint). Throws CheckpointError.
fs::path find_checkpoint(const std::string& path);

struct ModelSource {
  fs::path folder;
  RunConfig config;  // of a foreign model: the model's part, and data.tokenizer when there is one beside it
  NormPlan norms;
  std::optional<std::int64_t> step;              // of a checkpoint
  std::shared_ptr<const HfFolder> hugging_face;  // null: a checkpoint
};

// What lies at `path`: a checkpoint, a run folder, or a Hugging Face folder. Reads no weights. Throws CheckpointError,
// DataError.
ModelSource find_model(const std::string& path);

// The model on `device`, without an optimizer. `world` outlives it.
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

// The config a manifest carries, checked as a config file is.
RunConfig config_of(const Manifest& manifest, const fs::path& folder, NormPlan& norms);

}  // namespace norma
