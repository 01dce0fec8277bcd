// Where norma import takes a model from.
#pragma once

#include <string>
#include <vector>

#include "norma/interop/foreign_range.h"

#include "checked_config.h"

namespace norma {

struct ImportSource {
  std::string what;  // "the llama folder models/x", for messages
  ModelConfig model;
  NormConfig norm;
  NormPlan plan;
  WeightReader read;     // keeps its files open
  fs::path folder;       // where a tokenizer.json may lie
  std::string settings;  // a config of ours to start from, or ""
};

// A folder of Hugging Face transformers; or a safetensors file under OLMo's names, or a folder that holds it as
// model.safetensors, with OLMo's config.yaml beside it. `config` ("" for none) takes that file's place: one of OLMo's
// or of ours, whose other settings then count too. Throws DataError for what cannot be read or represented, ConfigError
// when a config is missing or wrong.
ImportSource open_import_source(const fs::path& path, const std::string& config);

}  // namespace norma
