// Models of OLMo's own trainer: weights under OLMo's names in a safetensors file, and the config.yaml beside it.
//
// Foreign data: whatever cannot be represented is refused by name. Errors are DataErrors that name file, key or tensor.
#pragma once

#include <memory>
#include <string>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/weights.h"
#include "norma/checkpoint/safetensors.h"
#include "norma/config/config.h"
#include "norma/norm/plan.h"

namespace norma {

struct OlmoModel {
  ModelConfig model;
  NormConfig norm;
  NormPlan plan;
};

// Whether a config is one of OLMo's (or of HybridNorm's fork), whose model section counts n_layers and n_heads.
bool is_olmo_config(const Json& config);

// The model section in our terms; keys that it leaves out have OLMo's own defaults. A key that is not known, or whose
// value has no counterpart here, is refused. `where` names the file.
OlmoModel read_olmo_config(const Json& config, const std::string& where);

// A safetensors file whose keys are OLMo's names, as they are or in OLMo's encoding (see olmo_names.h).
class OlmoWeights final : public WeightReader {
 public:
  // Checks that every tensor of the model is there once, in its shape, as F32, BF16 or F16, and that nothing else is.
  // What the model has and the file does not costs no memory.
  OlmoWeights(const fs::path& file, const ModelConfig& model, const NormPlan& plan);
  ~OlmoWeights() override;

  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  struct Stored;
  std::unique_ptr<Stored> stored_;
};

enum class OlmoKeys { plain, encoded };

// Writes the reader's weights as one float32 safetensors file under OLMo's names, tensor by tensor; the file
// appears complete or not at all. Throws ConfigError when OLMo has no such model, DiskError.
FileEntry export_olmo(const fs::path& file, const ModelConfig& model, const NormPlan& plan, const WeightReader& reader,
                      OlmoKeys keys);

}  // namespace norma
