// Models in folders as Hugging Face transformers writes them: config.json, and weights in safetensors files.
//
// Classes: llama, qwen3, olmo2, olmoe, qwen3_moe, deepseek_v2 and deepseek_v3, in the spellings of transformers 4
// and 5, and norma, the class that hf_export.h brings along, whose config.json holds a whole norm plan. Anything
// else is refused by name, never ignored. Every error is a DataError that names the folder, the key or the tensor: the
// weights are foreign data. Auxiliary losses are settings of training and are not read.
//
// Each tensor of such a folder is one or more ranges of our parameters: q_proj, k_proj and v_proj are rows of qkv,
// up_proj and gate_proj the halves of up_gate, experts follow each other. Nothing is permuted: which channels RoPE
// turns together is a setting of the model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/weights.h"
#include "norma/config/config.h"
#include "norma/interop/foreign_range.h"
#include "norma/model/parameters.h"
#include "norma/norm/plan.h"

namespace norma {

inline constexpr const char* kNormaType = "norma";  // model_type of our own class

// What config.json says in our terms. make_norm_plan(norm, model) is `plan`.
struct HfModel {
  std::string model_type;
  ModelConfig model;
  NormConfig norm;
  NormPlan plan;
  std::int64_t skipped_layers = 0;  // layers for predicting several tokens after the last one; not ours
};

// `where` names the file in errors; has_head: whether the folder holds a head of its own, which decides where
// tie_word_embeddings is not given.
HfModel read_hf_config(const Json& config, const std::string& where, bool has_head);

using HfRange = ForeignRange;

// All ranges of a model, in the order of our parameters. Each expert has tensors of its own, or they are fused: the
// tensors experts.gate_up_proj and experts.down_proj hold all experts of a layer.
std::vector<HfRange> hf_ranges(const HfModel& model, bool fused_experts = false);

// The ranges of one of the model's parameters.
std::vector<HfRange> hf_ranges_of(const ParameterSpec& parameter, const HfModel& model, bool fused_experts);

// A folder's model and its weights.
class HfFolder final : public WeightReader {
 public:
  // Reads config.json and the headers of the weight files, and checks that every tensor of the model is there once, in
  // its shape, as F32, BF16 or F16, and that nothing else is. What config.json promises and the files do not hold
  // costs no memory.
  explicit HfFolder(const fs::path& folder);
  ~HfFolder() override;

  const HfModel& model() const { return model_; }
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  struct Weights;
  HfModel model_;
  std::unique_ptr<Weights> weights_;
};

}  // namespace norma
