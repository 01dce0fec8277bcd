// Models on disk: what lies at a path, which model it says it is, and a reader of its weights.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "norma/base/file.h"
#include "norma/base/weights.h"
#include "norma/config/config.h"
#include "norma/norm/plan.h"

namespace norma {

struct ModelSource {
  std::string what;  // "the llama folder models/x", for messages
  fs::path folder;   // the checkpoint; or where the foreign weights lie, perhaps with a tokenizer.json
  RunConfig config;  // a checkpoint's own. Of a foreign model: `model`, `norm`, and data.tokenizer if there is one
  NormPlan norms;
  std::shared_ptr<const WeightReader> weights;  // keeps its files open
  std::optional<std::int64_t> step;             // of a checkpoint
};

// A checkpoint folder, or a run folder: then its newest complete checkpoint. The sizes of its files are checked, their
// checksums are not. Throws CheckpointError.
ModelSource open_checkpoint_model(const fs::path& path);

// The same, or a folder of Hugging Face transformers. Throws CheckpointError, DataError.
ModelSource find_model(const fs::path& path);

struct ForeignModel : ModelSource {
  std::string settings;  // a config of ours that describes the model and more, or ""
};

// What norma import takes: a folder of Hugging Face transformers; or a safetensors file under OLMo's names, or a folder
// that holds it as model.safetensors, with OLMo's config.yaml beside it. `config` ("" for none) replaces that file: it
// is one of OLMo's or one of ours, whose other settings then count too. Throws DataError for what cannot be read or
// represented, ConfigError when a config is missing or wrong.
ForeignModel open_foreign_model(const fs::path& path, const std::string& config);

}  // namespace norma
