// Writes models as folders that Hugging Face transformers loads.
//
// A model that one of transformers' own classes computes exactly is written as that class. Which one is found by
// asking: the config.json that would be written is read back as HfFolder reads it, and must give the same model and
// plan. Every other placement is written as our own class, whose Python files (src/interop/hf/) go into the folder and
// whose config.json holds the whole norm plan as data.
//
// Settings that change no logits are not compared: initial values, weights of the experts' losses, in which precision a
// router works. Classes of transformers round their norms in bf16 in different places; in float32 they agree.
#pragma once

#include <optional>

#include "norma/base/weights.h"
#include "norma/interop/hf_folder.h"

namespace norma {

enum class RemoteCode { automatic, always };  // automatic: only where no class of transformers will do
enum class HfDtype { fp32, bf16 };

// The model as it will be written: model_type says as which class. Throws ConfigError for what no class can express:
// attention that stays inside documents.
HfModel hf_model_of(const ModelConfig& model, const NormPlan& plan, RemoteCode remote_code = RemoteCode::automatic);

// Ids that config.json and generation_config.json name; absent ones are null.
struct HfTokens {
  std::optional<std::int64_t> end_of_text, padding;
};

// config.json in the spellings of transformers 4 and 5.
Json hf_config_of(const HfModel& model, const HfTokens& tokens, HfDtype dtype);

struct HfExportOptions {
  HfDtype dtype = HfDtype::fp32;
  std::uint64_t max_shard_bytes = 5'000'000'000;  // of a weight file; a tensor that is larger has one of its own
  HfTokens tokens;
};

// Writes weights, config.json, generation_config.json and, for our own class, its Python files into `folder`, which
// exists. Tensors are streamed in pieces. A selection bias stays float32. Throws DiskError.
void write_hf_folder(const fs::path& folder, const HfModel& model, const HfExportOptions& options,
                     const WeightReader& reader);

}  // namespace norma
