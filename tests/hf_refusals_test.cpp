// Hugging Face folders in other spellings, and folders that are refused with an error that names the cause.
#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/checkpoint/safetensors.h"
#include "norma/interop/hf_folder.h"

#include "support/errors.h"
#include "support/fixtures.h"
#include "support/memory_limit.h"

namespace norma {
namespace {

using testing::contains;
using testing::error_text;

// A copy of a fixture folder that can be changed.
class Copy {
 public:
  explicit Copy(const std::string& name) : path_(folder_.path() / name) {
    fs::copy(fs::path(NORMA_SOURCE_DIR) / "tests/fixtures/hf" / name, path_);
    for (const auto& entry : fs::directory_iterator(path_)) {
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    }
  }

  const fs::path& path() const { return path_; }
  Json json(const char* file = "config.json") const { return read_json(path_ / file, 1 << 20); }
  void write(const Json& json, const char* file = "config.json") const { std::ofstream(path_ / file) << json.dump(); }

  // The error of the folder after one key of config.json was changed.
  std::string error_with(const char* key, const Json& value) const {
    const Json before = json();
    Json changed = before;
    changed[key] = value;
    write(changed);
    const std::string text = error_text<DataError>([&] { HfFolder folder(path_); });
    write(before);
    return text;
  }

 private:
  testing::TemporaryFolder folder_;
  fs::path path_;
};

TEST(HfConfig, RefusesWhatItCannotRepresent) {
  const Copy llama("llama_untied");
  EXPECT_TRUE(contains(llama.error_with("model_type", "lama"), "got 'lama', did you mean 'llama'?"));
  EXPECT_TRUE(contains(llama.error_with("model_type", nullptr), "'model_type' must be a string; got null"));
  EXPECT_TRUE(contains(llama.error_with("attention_bias", true), "'attention_bias' is true"));
  EXPECT_TRUE(contains(llama.error_with("mlp_bias", true), "'mlp_bias' is true"));
  EXPECT_TRUE(contains(llama.error_with("hidden_act", "gelu"), "got 'gelu'"));
  EXPECT_TRUE(contains(llama.error_with("quantization_config", {{"bits", 4}}), "quantization_config"));
  EXPECT_TRUE(contains(llama.error_with("partial_rotary_factor", 0.5), "partial_rotary_factor"));
  EXPECT_TRUE(contains(llama.error_with("rope_parameters", {{"rope_type", "yarn"}, {"factor", 4.0}}),
                       "rope_type' is 'yarn', which is not supported for this class"));
  EXPECT_TRUE(contains(llama.error_with("hidden_size", "32"),
                       "'hidden_size' must be a whole number from 0 to 1099511627776; got \"32\""));
  EXPECT_TRUE(contains(llama.error_with("hidden_size", -1), "hidden_size"));
  EXPECT_TRUE(contains(llama.error_with("num_attention_heads", 0), "'num_attention_heads' must be above 0"));
  EXPECT_TRUE(contains(llama.error_with("rms_norm_eps", nullptr), "'rms_norm_eps' must be a finite number; got null"));
  EXPECT_TRUE(contains(llama.error_with("num_key_value_heads", 3), "model.num_kv_heads"));
  EXPECT_TRUE(contains(Copy("qwen3_tied").error_with("use_sliding_window", true), "use_sliding_window"));
  EXPECT_TRUE(contains(Copy("olmoe_tied").error_with("clip_qkv", 8.0), "clip_qkv"));
  EXPECT_TRUE(contains(Copy("qwen3_moe_untied").error_with("decoder_sparse_step", 2), "decoder_sparse_step"));
  EXPECT_TRUE(contains(Copy("qwen3_moe_untied").error_with("mlp_only_layers", {0}), "mlp_only_layers"));
  EXPECT_TRUE(
      contains(llama.error_with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}), "both set and differ"));
  EXPECT_TRUE(contains(llama.error_with("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}),
                       "a section of its own"));
  EXPECT_TRUE(contains(llama.error_with("rope_parameters", {{"rope_theta", 1e4}, {"factor", 8.0}}), "no rope_type"));
  EXPECT_TRUE(contains(llama.error_with("num_hidden_layers", 9000), "there are only"));
  EXPECT_TRUE(contains(Copy("qwen3_moe_untied").error_with("num_experts", 65536), "there are only"));
  const Copy experts("deepseek_v3_moe_untied");
  for (const char* key : {"n_group", "topk_group", "routed_scaling_factor"}) {
    EXPECT_TRUE(contains(experts.error_with(key, nullptr), cat("'", key, "' is missing")));
  }
  const Copy deepseek("deepseek_v3_untied");
  EXPECT_TRUE(contains(deepseek.error_with("num_key_value_heads", 2), "must equal num_attention_heads = 4; got 2"));
  EXPECT_TRUE(contains(deepseek.error_with("rope_parameters", {{"rope_type", "linear"}}), "allowed: default, yarn"));
  EXPECT_TRUE(
      contains(Copy("deepseek_v3_moe_untied").error_with("scoring_func", "softmax"), "must be sigmoid; got 'softmax'"));
  EXPECT_TRUE(contains(Copy("deepseek_v2_moe_tied").error_with("topk_method", "noaux_tc"), "group_limited_greedy"));
}

TEST(HfTensors, MustFitTheConfig) {
  const Copy llama("llama_untied");
  const std::string wide = llama.error_with("intermediate_size", 50);
  EXPECT_TRUE(contains(wide, "must have the shape [50, 32] by config.json; got [48, 32]"));
  EXPECT_TRUE(contains(wide, "model.layers.0.mlp."));
  EXPECT_TRUE(contains(llama.error_with("num_hidden_layers", 3), "lacks model.layers.2."));
  EXPECT_TRUE(contains(llama.error_with("num_hidden_layers", 1), "model.layers.1."));
  EXPECT_TRUE(contains(llama.error_with("num_hidden_layers", 1), "does not belong to a llama model"));
  EXPECT_TRUE(contains(llama.error_with("tie_word_embeddings", true), "differs from model.embed_tokens.weight"));
  EXPECT_TRUE(contains(Copy("llama_tied_bf16").error_with("tie_word_embeddings", false), "lacks lm_head.weight"));
  EXPECT_TRUE(contains(Copy("deepseek_v3_untied").error_with("q_lora_rank", nullptr), "self_attn.q_proj.weight"));
}

constexpr std::uint64_t kLittleMemory = std::uint64_t{512} << 20;

void write_zeros(const fs::path& path, const std::vector<TensorInfo>& infos) {
  SafetensorsWriter writer(path, infos);
  for (const TensorInfo& info : infos) {
    const std::string zeros(static_cast<std::size_t>(element_count(info.shape).value()) * 4, '\0');
    writer.write(info.name, std::as_bytes(std::span(zeros)));
  }
  writer.close();
}

TEST(HfTensors, ExpertsOfTheConfigAloneTakeNoMemory) {
  const Copy copy("qwen3_moe_untied");
  Json config = copy.json();
  config["num_hidden_layers"] = 1000;
  config["num_local_experts"] = 65536;
  copy.write(config);
  std::vector<TensorInfo> infos = {{"a.mlp.experts.gate_up_proj", "F32", {0}}};
  for (int i = 1; i < 1000; ++i) infos.push_back({cat("a.", i), "F32", {0}});
  write_zeros(copy.path() / "model.safetensors", infos);
  const testing::MemoryLimit limit(kLittleMemory);
  EXPECT_TRUE(contains(error_text<DataError>([&] { HfFolder folder(copy.path()); }),
                       "config.json says num_local_experts 65536 in each of 1000 layers, but there are only 1000"));
}

// All tensors of the folder's model, with fused experts.
std::vector<TensorInfo> fused_tensors(const Json& config) {
  std::map<std::string, TensorInfo> infos;
  for (const HfRange& range : hf_ranges(read_hf_config(config, "config.json", true), true)) {
    infos[range.tensor] = {range.tensor, "F32", range.shape};
  }
  std::vector<TensorInfo> all;
  for (const auto& [name, info] : infos) all.push_back(info);
  return all;
}

TEST(HfTensors, FusedExpertsAreAsManyAsTheConfigSays) {
  const Copy copy("qwen3_moe_untied");
  Json config = copy.json();
  config["num_hidden_layers"] = 100;
  copy.write(config);
  std::vector<TensorInfo> tensors = fused_tensors(config);
  const fs::path weights = copy.path() / "model.safetensors";
  write_zeros(weights, tensors);
  EXPECT_NO_THROW(HfFolder(copy.path()));
  const testing::MemoryLimit limit(kLittleMemory);
  EXPECT_TRUE(contains(copy.error_with("num_local_experts", 65536),
                       "model.layers.0.mlp.gate.weight must have the shape [65536, 32] by config.json's "
                       "num_local_experts 65536; got [4, 32]"));
  for (TensorInfo& tensor : tensors) {
    if (tensor.name == "model.layers.0.mlp.gate.weight") tensor.shape[0] = 65536;
    if (tensor.name.find(".mlp.experts.") != std::string::npos) tensor.shape[1] = 0;
  }
  write_zeros(weights, tensors);
  EXPECT_TRUE(contains(copy.error_with("num_local_experts", 65536),
                       "model.layers.0.mlp.experts.gate_up_proj must have the shape [65536, 24, 32] by config.json's "
                       "num_local_experts 65536; got [4, 0, 32]"));
}

TEST(HfConfig, SpellingsOfBothVersionsMeanTheSame) {
  const Copy copy("deepseek_v3_split_yarn_tied");
  const HfModel want = HfFolder(copy.path()).model();
  Json old = copy.json();
  Json rope = old.at("rope_parameters");
  old["rope_theta"] = rope.at("rope_theta");
  rope["type"] = rope.at("rope_type");
  rope.erase("rope_type");
  rope.erase("rope_theta");
  old["rope_scaling"] = rope;
  for (const char* key : {"rope_parameters", "head_dim", "qk_head_dim", "num_key_value_heads", "tie_word_embeddings"}) {
    old.erase(key);
  }
  copy.write(old);
  const HfModel got = HfFolder(copy.path()).model();
  RunConfig a, b;
  a.model = want.model;
  b.model = got.model;
  EXPECT_EQ(a.model.rope_theta, b.model.rope_theta);
  EXPECT_EQ(a.model.rope.factor, b.model.rope.factor);
  EXPECT_EQ(a.model.rope.original_length, b.model.rope.original_length);
  EXPECT_EQ(a.model.rope.mscale_all_dim, b.model.rope.mscale_all_dim);
  EXPECT_TRUE(b.model.tie_embeddings) << "no head is stored";
  EXPECT_TRUE(want.plan == got.plan);
}

// DeepSeek-V3 carries a layer that predicts a second token.
TEST(HfTensors, LayersForFurtherTokensAreSkipped) {
  const Copy copy("deepseek_v3_untied");
  Json config = copy.json();
  config["num_hidden_layers"] = 1;
  copy.write(config);
  EXPECT_TRUE(contains(error_text<DataError>([&] { HfFolder folder(copy.path()); }), "does not belong to"));
  config["num_nextn_predict_layers"] = 1;
  copy.write(config);
  EXPECT_EQ(HfFolder(copy.path()).model().model.num_layers, 1);
}

TEST(HfIndex, NamesPlainFilesThatHoldWhatItSays) {
  const Copy copy("qwen3_untied_sharded");
  constexpr const char* kIndex = "model.safetensors.index.json";
  const Json index = copy.json(kIndex);
  const std::string tensor = "model.layers.0.input_layernorm.weight";  // the file has other tensors too
  const auto error_of = [&](const Json& changed) {
    copy.write(changed, kIndex);
    return error_text<DataError>([&] { HfFolder folder(copy.path()); });
  };
  for (const Json& file : {Json("../other.safetensors"), Json("/etc/passwd"), Json(".hidden"), Json(""), Json(7)}) {
    Json changed = index;
    changed["weight_map"][tensor] = file;
    EXPECT_TRUE(contains(error_of(changed), "must lie in a file of the same folder")) << file;
  }
  Json changed = index;
  changed["weight_map"]["model.layers.9.x"] = index.at("weight_map").at(tensor);
  EXPECT_TRUE(contains(error_of(changed), "model.layers.9.x is not in"));
  changed = index;
  changed["weight_map"].erase(tensor);
  EXPECT_TRUE(contains(error_of(changed), "does not name " + tensor));
  changed = index;
  changed["weight_map"][tensor] = "model-00009-of-00009.safetensors";
  EXPECT_TRUE(contains(error_of(changed), "model-00009-of-00009.safetensors"));
  EXPECT_TRUE(contains(error_of(Json::array()), "weight_map"));
  copy.write(index, kIndex);
  std::ofstream(copy.path() / "model.safetensors") << "x";
  EXPECT_TRUE(contains(error_text<DataError>([&] { HfFolder folder(copy.path()); }), "it holds both"));
  const Copy bare("llama_untied");
  fs::resize_file(bare.path() / "model.safetensors", 1000);
  EXPECT_TRUE(contains(error_text<DataError>([&] { HfFolder folder(bare.path()); }), "model.safetensors"));
  fs::remove(bare.path() / "model.safetensors");
  EXPECT_TRUE(contains(error_text<DataError>([&] { HfFolder folder(bare.path()); }), "it holds neither"));
}

// The bytes of per-expert matrices one after the other: [E, 2F, D] with gates first, or [E, D, F].
std::string fused_bytes(const SafetensorsFile& file, int layer, int experts, const std::vector<const char*>& parts) {
  std::string all;
  for (int e = 0; e < experts; ++e) {
    for (const char* part : parts) {
      const auto bytes = file.bytes(cat("model.layers.", layer, ".mlp.experts.", e, ".", part, ".weight"));
      all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
  }
  return all;
}

// transformers 5 may write the experts of a layer as two tensors.
TEST(HfTensors, FusedExpertsAreTheSameWeights) {
  const Copy copy("olmoe_tied");
  const HfFolder separate(fs::path(NORMA_SOURCE_DIR) / "tests/fixtures/hf/olmoe_tied");
  {
    const SafetensorsFile file(copy.path() / "model.safetensors");
    std::vector<TensorInfo> infos;
    std::map<std::string, std::string> contents;
    for (const TensorInfo& tensor : file.header().tensors) {
      if (tensor.name.find(".experts.") != std::string::npos) continue;
      const auto bytes = file.bytes(tensor.name);
      contents[tensor.name].assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      infos.push_back({tensor.name, tensor.dtype, tensor.shape});
    }
    for (const int layer : {0, 1}) {
      const std::string prefix = cat("model.layers.", layer, ".mlp.experts.");
      contents[prefix + "gate_up_proj"] = fused_bytes(file, layer, 6, {"gate_proj", "up_proj"});
      contents[prefix + "down_proj"] = fused_bytes(file, layer, 6, {"down_proj"});
      infos.push_back({prefix + "gate_up_proj", "F32", {6, 24, 32}});
      infos.push_back({prefix + "down_proj", "F32", {6, 32, 12}});
    }
    SafetensorsWriter writer(copy.path() / "fused.safetensors", infos);
    for (const TensorInfo& info : infos) {
      const std::string& bytes = contents.at(info.name);
      writer.write(info.name, std::as_bytes(std::span(bytes.data(), bytes.size())));
    }
    writer.close();
  }
  fs::rename(copy.path() / "fused.safetensors", copy.path() / "model.safetensors");
  const HfFolder fused(copy.path());
  for (const char* name : {"blocks.0.mlp.experts.up_gate.weight", "blocks.1.mlp.experts.down.weight"}) {
    const std::int64_t count = std::string(name).find("down") != std::string::npos ? 6 * 32 * 12 : 6 * 24 * 32;
    const at::Tensor a = at::empty({count - 100}, at::kDouble), b = at::empty_like(a);
    separate.read(name, 77, a);
    fused.read(name, 77, b);
    EXPECT_TRUE(at::equal(a, b)) << name;
  }
}

}  // namespace
}  // namespace norma
