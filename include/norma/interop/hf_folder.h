// Models in folders as Hugging Face transformers writes them: config.json, and weights in safetensors files.
//
// Classes: llama, qwen3, olmo2, olmoe, qwen3_moe, deepseek_v2 and deepseek_v3, in the spellings of transformers 4
// and 5, and norma, the class that hf_export.h brings along, whose config.json holds a whole norm plan. What is not
// here is refused by name, never ignored. Every error is a DataError that names the folder, the key or the tensor: the
// weights are foreign data. Auxiliary losses are settings of training and are not read.
//
// Each tensor of such a folder is one or more ranges of our parameters: q_proj, k_proj and v_proj are rows of qkv,
// up_proj and gate_proj the halves of up_gate, experts follow each other. Nothing is permuted: which channels RoPE
// turns together is a setting of the model.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/layout.h"
#include "norma/base/unit.h"
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

// Everything a model needs, by our parameters and in their order. Experts come one by one, or fused: the tensors
// experts.gate_up_proj and experts.down_proj hold those of a layer.
std::vector<HfRange> hf_ranges(const HfModel& model, bool fused_experts = false);

// The same for one of the model's parameters.
std::vector<HfRange> hf_ranges_of(const ParameterSpec& parameter, const HfModel& model, bool fused_experts);

class HfWeights;

class HfFolder {
 public:
  // Reads config.json and the headers of the weight files, and checks that every tensor of the model is there once, in
  // its shape, as F32, BF16 or F16, and that nothing else is. What config.json promises and the files do not hold
  // costs no memory.
  explicit HfFolder(const fs::path& folder);
  ~HfFolder();

  const HfModel& model() const { return model_; }

  // Elements [begin, begin + out.numel()) of one of our parameters, row-major, into out (1-D, floating).
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const;

  // All weights into a model's flat storage: of each unit, the shard that this rank owns.
  using ShardOf = std::function<ShardSpan(std::size_t unit)>;
  void load(const Layout& layout, const std::vector<FlatUnit>& units, const ShardOf& shard_of_unit) const;

 private:
  HfModel model_;
  std::unique_ptr<HfWeights> weights_;
  bool fused_ = false;                               // the experts of a layer are two tensors
  std::map<std::string, ParameterSpec> parameters_;  // by name
};

}  // namespace norma
