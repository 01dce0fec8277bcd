// Folders of Hugging Face transformers, reading and writing: config.json, and weights in safetensors files.
//
// Classes: llama, qwen3, olmo2, olmoe, qwen3_moe, deepseek_v2 and deepseek_v3, in the spellings of transformers 4 and
// 5, and norma, a class of our own. Its Python files (src/interop/hf/) are written into the folder, and its config.json
// holds the whole norm plan as data.
//
// Each tensor of such a folder is one or more ranges of our parameters: q_proj, k_proj and v_proj are rows of qkv,
// up_proj and gate_proj are the halves of up_gate, and experts follow each other. No channels are permuted: which of
// them RoPE rotates together is a setting of the model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/weights.h"
#include "norma/config/config.h"
#include "norma/data/run_tokenizer.h"
#include "norma/interop/foreign_range.h"
#include "norma/model/parameters.h"
#include "norma/norm/plan.h"

namespace norma {

inline constexpr const char* kNormaType = "norma";  // model_type of our own class

// A model as config.json describes it. make_norm_plan(norm, model) is `plan`.
struct HfModel {
  std::string model_type;
  ModelConfig model;
  NormConfig norm;
  NormPlan plan;
  std::int64_t skipped_layers = 0;  // layers after the last one that predict several tokens; Norma has none
};

using HfRange = ForeignRange;

// All ranges of a model, in the order of our parameters. Each expert has tensors of its own, or they are fused: the
// tensors experts.gate_up_proj and experts.down_proj hold all experts of a layer.
std::vector<HfRange> hf_ranges(const HfModel& model, bool fused_experts = false);

// The ranges of one of the model's parameters.
std::vector<HfRange> hf_ranges_of(const ParameterSpec& parameter, const HfModel& model, bool fused_experts);

// ---- Reading ----
//
// What Norma does not have is refused by name, never ignored. Every error is a DataError that names the folder, the key
// or the tensor. The weights of auxiliary losses are settings of training and are not read.

// Reads config.json. `where` names the file in errors. `has_head`, whether the weights hold a head of their own,
// decides when tie_word_embeddings is missing.
HfModel read_hf_config(const Json& config, const std::string& where, bool has_head);

// A folder's model and its weights.
class HfFolder final : public WeightReader {
 public:
  // Reads config.json and the headers of the weight files, and checks that every tensor of the model is there once, in
  // its shape, as F32, BF16 or F16, and that there is no other tensor. No memory is taken for what config.json promises
  // and the files do not hold.
  explicit HfFolder(const fs::path& folder);
  ~HfFolder() override;

  const HfModel& model() const { return model_; }
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  struct Weights;
  HfModel model_;
  std::unique_ptr<Weights> weights_;
};

// ---- Writing ----
//
// A model is written as a class of transformers if one computes exactly the same, and else as our own class. The class
// is found by trying: the config.json that would be written is read back, and must give the same model and plan.
// Settings that change no logits are not compared: initial values, weights of the experts' losses, and the precision of
// a router. Classes of transformers round norms in bf16 at other points than Norma; in float32 they agree.

enum class RemoteCode { automatic, always };  // automatic: our own class only if no class of transformers will do
enum class HfDtype { fp32, bf16 };

// The model as it will be written; its model_type is the class. Throws ConfigError for what no class can express:
// attention that stays inside documents.
HfModel hf_model_of(const ModelConfig& model, const NormPlan& plan, RemoteCode remote_code = RemoteCode::automatic);

// Token ids in config.json and generation_config.json. Absent ones are written as null.
struct HfTokens {
  std::optional<std::int64_t> end_of_text, padding;
};

// config.json in the spellings of transformers 4 and 5.
Json hf_config_of(const HfModel& model, const HfTokens& tokens, HfDtype dtype);

// A tokenizer as files of the folder.
struct HfTokenizer {
  std::string json;  // tokenizer.json
  Json config;       // tokenizer_config.json
  HfTokens tokens;
};

// <|pad|> or <|padding|> is padding where the tokenizer has such a token. Throws DataError when its file cannot be
// read.
HfTokenizer hf_tokenizer_of(const FoundTokenizer& found, std::int64_t sequence_length);

struct HfExportOptions {
  HfDtype dtype = HfDtype::fp32;
  std::uint64_t max_shard_bytes = 5'000'000'000;  // of a weight file; a larger tensor has a file of its own
  std::optional<HfTokenizer> tokenizer;
};

// Writes weights, config.json, generation_config.json, the tokenizer's files and, for our own class, its Python files
// into `folder`, which must exist. Tensors are streamed in pieces. A selection bias stays float32. Throws DiskError.
void write_hf_folder(const fs::path& folder, const HfModel& model, const HfExportOptions& options,
                     const WeightReader& reader);

}  // namespace norma
