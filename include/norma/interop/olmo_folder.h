// Models of OLMo's own trainer, reading and writing: weights under OLMo's names in a safetensors file, and the
// config.yaml beside it. What Norma, or OLMo, does not have is refused by name.
//
// OLMo's names of our parameters, for dense models (OLMo 2), OLMoE's and HybridNorm's:
//   embedding transformer.wte           embedding.norm transformer.emb_norm
//   head.norm transformer.ln_f          head           transformer.ff_out
//   in a block, after transformer.blocks.N.:
//   attention.qkv att_proj    attention.out attn_out    mlp.up_gate ff_proj    mlp.down ff_out
//   norm_q q_norm    norm_k k_norm    norm_v v_norm    norm_context c_norm
//   attention.norm_in attn_norm, mlp.norm_in ff_norm; norms on outputs (norm_after) have the same names
//   mlp.router ffn.router.layer
//   experts: ffn.experts.mlp.w1 gate, v1 up, w2 down, [E F, D]; w2 is not transposed, while our down is [E, D, F]
//
// Source: OLMo's olmo/model.py and checkpoint.py, megablocks' glu.py.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/weights.h"
#include "norma/checkpoint/safetensors.h"
#include "norma/config/config.h"
#include "norma/interop/foreign_range.h"
#include "norma/model/parameters.h"
#include "norma/norm/plan.h"

namespace norma {

// ---- Names ----

// Throws ConfigError naming the layer and the site, or the key, if OLMo's code has no such model.
void check_olmo_model(const ModelConfig& model, const NormPlan& plan);

// The ranges of all parameters, in the order of the model. Throws as check_olmo_model() does.
std::vector<ForeignRange> olmo_ranges(const ModelConfig& model, const NormPlan& plan);

// The ranges of one parameter of a model that check_olmo_model() accepts.
std::vector<ForeignRange> olmo_ranges_of(const ParameterSpec& parameter);

// A tensor's key in OLMo's own encoding: URL-safe base64 of the pickle of ((name,), False).
std::string olmo_key(std::string_view name);

// The name in such a key; nullopt if the key is anything but a tensor under one name. Nothing is unpickled: the bytes
// are compared with the one form that olmo_key() writes.
std::optional<std::string> olmo_name(std::string_view key);

enum class OlmoKeys { plain, encoded };

// ---- Files ----

struct OlmoModel {
  ModelConfig model;
  NormConfig norm;
  NormPlan plan;
};

// Whether a config is one of OLMo's, or of HybridNorm's fork: its model section has n_layers and n_heads.
bool is_olmo_config(const Json& config);

// Reads the model section. Keys that are missing have OLMo's own defaults. Throws DataError for a key that is not known
// or whose value Norma does not have. `where` names the file.
OlmoModel read_olmo_config(const Json& config, const std::string& where);

// A safetensors file whose keys are OLMo's names, plain or encoded.
class OlmoWeights final : public WeightReader {
 public:
  // Checks that every tensor of the model is there once, in its shape, as F32, BF16 or F16, and that there is no other
  // tensor. No memory is taken for what the model has and the file does not. Throws DataError.
  OlmoWeights(const fs::path& file, const ModelConfig& model, const NormPlan& plan);
  ~OlmoWeights() override;

  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  struct Stored;
  std::unique_ptr<Stored> stored_;
};

// Writes the reader's weights as one float32 safetensors file under OLMo's names, tensor by tensor. The file appears
// complete or not at all. Throws ConfigError if OLMo has no such model, DiskError.
FileEntry export_olmo(const fs::path& file, const ModelConfig& model, const NormPlan& plan, const WeightReader& reader,
                      OlmoKeys keys);

}  // namespace norma
