// Writing folders for Hugging Face transformers: tensors are the same bit by bit when they are read again, a class of
// transformers is chosen exactly where it computes the same, and the config of our own class is complete.
#include <random>
#include <span>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/checkpoint/safetensors.h"
#include "norma/config/yaml.h"
#include "norma/interop/hf_folder.h"

#include "support/errors.h"
#include "support/fixtures.h"
#include "support/registration.h"
#include "support/tiny_model.h"

namespace norma {
namespace {

using testing::contains;
using testing::error_text;
using testing::TemporaryFolder;

using Bytes = std::vector<std::byte>;

// Every tensor of a folder's weight files: its type, then its bytes.
std::map<std::string, std::pair<std::string, Bytes>> tensors_of(const fs::path& folder) {
  std::map<std::string, std::pair<std::string, Bytes>> all;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const SafetensorsFile file(entry.path());
    for (const TensorInfo& tensor : file.header().tensors) {
      const auto bytes = file.bytes(tensor.name);
      all[tensor.name] = {tensor.dtype, Bytes(bytes.begin(), bytes.end())};
    }
  }
  return all;
}

// A folder that transformers wrote is imported and exported: it has the same class, tensors and model.
void round_trip_case(const fs::path& path) {
  const HfFolder original(path);
  const auto before = tensors_of(path);
  HfExportOptions options;
  for (const auto& entry : before) {
    if (entry.second.first == "BF16") options.dtype = HfDtype::bf16;
  }
  for (const RemoteCode remote_code : {RemoteCode::automatic, RemoteCode::always}) {
    const TemporaryFolder out;
    const HfModel model = hf_model_of(original.model().model, original.model().plan, remote_code);
    write_hf_folder(out.path(), model, options, original);
    const HfFolder again(out.path());
    EXPECT_TRUE(again.model().plan == original.model().plan);
    if (remote_code == RemoteCode::always) {
      EXPECT_EQ(again.model().model_type, kNormaType);
      continue;
    }
    const std::string type = original.model().model_type;
    const bool dense_v2 = type == "deepseek_v2" && original.model().model.moe_layers().empty();
    EXPECT_EQ(again.model().model_type,
              dense_v2 ? "deepseek_v3" : type);  // without experts the two classes compute the same
    EXPECT_TRUE(tensors_of(out.path()) == before);
  }
}

const bool kRegistered =
    testing::announce([] { testing::register_folder_cases("HfRoundTrip", "hf", &round_trip_case); });

RunConfig moe_config(std::int64_t layers) {
  RunConfig config = testing::tiny_config(layers);
  config.model.mlp = MlpKind::moe;
  config.model.moe.num_experts = 8;
  config.model.moe.top_k = 3;
  config.model.moe.expert_dim = 20;
  return config;
}

HfModel model_of(const RunConfig& config, RemoteCode remote_code = RemoteCode::automatic) {
  return hf_model_of(config.model, testing::plan_of(config.norm, config.model), remote_code);
}

std::string type_of(RunConfig config, const std::string& preset) {
  config.norm.preset = preset;
  return model_of(config).model_type;
}

TEST(HfClass, IsThatOfTransformersWhereItComputesTheSame) {
  const RunConfig dense = testing::tiny_config(2), moe = moe_config(2), latent = testing::tiny_latent_config(2);
  EXPECT_EQ(type_of(dense, "pre"), "llama");
  EXPECT_EQ(type_of(dense, "qk"), "qwen3");
  EXPECT_EQ(type_of(dense, "pre_qk"), "qwen3");  // another name of the same plan
  EXPECT_EQ(type_of(dense, "olmo2"), "olmo2");
  EXPECT_EQ(type_of(moe, "qk"), "qwen3_moe");
  EXPECT_EQ(type_of(moe, "olmoe"), "olmoe");
  EXPECT_EQ(type_of(latent, "pre"), "deepseek_v3");
  for (const char* preset : {"post", "qkv", "hybrid", "hybrid_star", "deep", "span", "sandwich", "olmoe", "lns"}) {
    EXPECT_EQ(type_of(dense, preset), kNormaType) << preset;
  }
  for (const char* preset : {"pre", "olmo2", "hybrid"}) EXPECT_EQ(type_of(moe, preset), kNormaType) << preset;
  for (const char* preset : {"qk", "hybrid"}) EXPECT_EQ(type_of(latent, preset), kNormaType) << preset;
}

// A single setting that the class does not have makes the model one of another class.
TEST(HfClass, IsOurOwnWhereAnythingDiffers) {
  const auto type_with = [](RunConfig config, const char* preset, const auto& change) {
    change(config);
    return type_of(config, preset);
  };
  const RunConfig dense = testing::tiny_config(2), moe = moe_config(2);
  EXPECT_EQ(type_with(dense, "pre", [](RunConfig& c) { c.norm.kind = NormKind::layer; }), kNormaType);
  EXPECT_EQ(type_with(dense, "pre", [](RunConfig& c) { c.norm.final.eps = 1e-3; }), kNormaType);
  EXPECT_EQ(type_with(dense, "pre", [](RunConfig& c) { c.norm.layers["1"].mlp.beta = 0.5; }), kNormaType);
  EXPECT_EQ(type_with(dense, "pre", [](RunConfig& c) { c.model.clip_qkv = 4.0; }), kNormaType);
  EXPECT_EQ(type_with(dense, "olmo2", [](RunConfig& c) { c.model.head_dim = 12; }), kNormaType);
  EXPECT_EQ(type_with(moe, "olmoe", [](RunConfig& c) { c.model.head_dim = 12; }), kNormaType);
  EXPECT_EQ(type_with(moe, "olmoe", [](RunConfig& c) { c.model.moe.shared_experts = 1; }), kNormaType);
  EXPECT_EQ(type_with(moe, "qk", [](RunConfig& c) { c.model.moe.scoring = RouterScoring::sigmoid; }), kNormaType);
  EXPECT_EQ(type_with(moe, "qk", [](RunConfig& c) { c.model.layers["0"].mlp = MlpKind::dense; }), kNormaType);
  EXPECT_EQ(type_with(dense, "pre", [](RunConfig& c) { c.model.head_dim = 12; }), "llama");
  EXPECT_EQ(type_with(dense, "pre",
                      [](RunConfig& c) {
                        c.model.d_model = 30;
                        c.model.head_dim = 8;
                      }),
            kNormaType);
  EXPECT_EQ(type_with(dense, "pre", [](RunConfig& c) { c.norm.final.gain_init = 0.5; }),
            "llama");  // it matters only when training begins
  EXPECT_EQ(type_with(moe, "qk", [](RunConfig& c) { c.model.moe.balance_loss = 0.5; }), "qwen3_moe");
  EXPECT_EQ(type_with(moe, "qk", [](RunConfig& c) { c.model.moe.normalize_weights = true; }), "qwen3_moe");
}

TEST(HfClass, DeepSeekIsTakenWithItsExperts) {
  RunConfig config = testing::tiny_latent_config(3);
  config.norm.preset = "pre";
  config.model.mlp = MlpKind::moe;
  config.model.layers["0"].mlp = MlpKind::dense;
  MoeConfig& moe = config.model.moe;
  moe.shared_experts = 1;
  EXPECT_EQ(model_of(config).model_type, kNormaType);  // it rotates halves, and deepseek_v2 rotates neighbours
  config.model.attention.rope_pairs = RopePairs::adjacent;
  EXPECT_EQ(model_of(config).model_type, "deepseek_v2");
  moe.scoring = RouterScoring::sigmoid;
  moe.selection_bias = moe.normalize_weights = true;
  EXPECT_EQ(model_of(config).model_type, "deepseek_v3");
  config.model.layers["2"].mlp = MlpKind::dense;
  EXPECT_EQ(model_of(config).model_type, kNormaType);
}

TEST(HfClass, AttentionInsideDocumentsIsRefused) {
  RunConfig config = testing::tiny_config(2);
  config.model.document_separator = 3;
  EXPECT_TRUE(contains(error_text<ConfigError>([&] { model_of(config); }), "document_separator"));
}

// Numbers keep their type, and keys with a new spelling are written in both spellings.
TEST(HfConfigJson, SpeaksToBothVersions) {
  RunConfig config = moe_config(2);
  config.norm.preset = "olmoe";
  config.model.moe.balance_loss = 0.0;
  config.model.rope_theta = 10000.0;
  const Json json = hf_config_of(model_of(config), {7, std::nullopt}, HfDtype::bf16);
  EXPECT_EQ(json.at("rope_theta").dump(), "10000.0");
  EXPECT_EQ(json.at("rope_parameters").at("rope_theta"), json.at("rope_theta"));
  EXPECT_TRUE(json.at("rope_scaling").is_null());
  EXPECT_EQ(json.at("router_aux_loss_coef").dump(), "0.0");
  EXPECT_EQ(json.at("rms_norm_eps").dump(), "1e-05");
  EXPECT_EQ(json.at("max_position_embeddings").dump(), "16");
  EXPECT_EQ(json.at("dtype"), json.at("torch_dtype"));
  EXPECT_EQ(json.at("eos_token_id").dump(), "7");
  EXPECT_TRUE(json.at("pad_token_id").is_null() && json.at("tie_word_embeddings").is_boolean());
  EXPECT_EQ(json.at("vocab_size").dump(), "64");  // the embedding's rows
}

RunConfig yarn_config() {
  RunConfig config = testing::tiny_latent_config(2);
  config.model.rope.scaling = RopeScaling::yarn;
  config.model.rope.factor = 4.0;
  config.model.rope.original_length = 8;
  config.model.rope.mscale = 0.7;
  config.model.rope.attention_factor = 1.25;
  return config;
}

// The whole config.json of our own class, field by field.
TEST(HfNormaConfig, SaysEverythingThatChangesAResult) {
  RunConfig wild = moe_config(4);
  wild.model.layers["1-2"].mlp = MlpKind::dense;
  wild.model.clip_qkv = 2.5;
  wild.model.head_dim = 12;
  wild.model.attention.rope_pairs = RopePairs::adjacent;
  wild.model.moe = {
      8, 3, 20, 2, RouterScoring::sigmoid, true, 2.5, 4, 2, GroupScore::top2, true, 0.0, 0.0, RouterPrecision::fp32};
  wild.norm.layers["2"].attention.alpha = 0.1;
  wild.norm.layers["3"].inner.q.granularity = Granularity::whole;
  for (const RunConfig& config : {wild, testing::tiny_config(3), yarn_config()}) {
    const HfModel model = model_of(config, RemoteCode::always);
    EXPECT_EQ(model.model_type, kNormaType);
    EXPECT_TRUE(model.plan == testing::plan_of(config.norm, config.model));
    const ModelConfig &got = model.model, &wanted = config.model;
    EXPECT_EQ(got.vocab_size, wanted.vocab_size);
    EXPECT_EQ(got.rows(), wanted.rows());
    EXPECT_EQ(got.moe_layers(), wanted.moe_layers());
    EXPECT_EQ(got.clip_qkv, wanted.clip_qkv);
    EXPECT_EQ(got.head_width(), wanted.head_width());
    EXPECT_EQ(got.attention.rope_pairs, wanted.attention.rope_pairs);
    RunConfig a, b;
    a.model.moe = got.moe;
    b.model.moe = wanted.moe;
    a.model.rope = got.rope;
    b.model.rope = wanted.rope;
    for (const KeyDifference& key : differing_keys(a, b)) ADD_FAILURE() << key.key << " " << key.before << key.now;
  }
}

// transformers saves the defaults of all attributes, also of those that are not used.
TEST(HfNormaConfig, ADenseFolderMaySpeakOfExperts) {
  const RunConfig config = testing::tiny_config(2);
  Json saved = hf_config_of(model_of(config, RemoteCode::always), {}, HfDtype::fp32);
  EXPECT_FALSE(saved.contains("num_experts"));
  saved["num_experts"] = 8;
  saved["num_experts_per_tok"] = 2;
  saved["moe_intermediate_size"] = 704;
  saved["routed_scaling_factor"] = 1.0;
  const HfModel read = read_hf_config(saved, "config.json", false);
  EXPECT_TRUE(read.model.moe_layers().empty());
  EXPECT_TRUE(read.plan == testing::plan_of(config.norm, config.model));
  RunConfig a, b;
  a.model.moe = read.model.moe;
  EXPECT_TRUE(differing_keys(a, b).empty());
}

TEST(HfNormaConfig, DefaultsAreThoseOfThePython) {
  Json latent = hf_config_of(model_of(yarn_config(), RemoteCode::always), {}, HfDtype::fp32);
  latent.erase("rope_interleave");
  EXPECT_EQ(read_hf_config(latent, "config.json", false).model.attention.rope_pairs, RopePairs::halves);
}

TEST(HfNormaConfig, IsReadWithSuspicion) {
  RunConfig config = testing::tiny_config(2);
  const Json good = hf_config_of(model_of(config, RemoteCode::always), {}, HfDtype::fp32);
  const auto complaint = [&](const auto& change) {
    Json bad = good;
    change(bad);
    return error_text<DataError>([&] { read_hf_config(bad, "config.json", false); });
  };
  const auto layer = [](Json& json) -> Json& { return json["norm_plan"]["layers"][1]; };
  EXPECT_NO_THROW(read_hf_config(good, "config.json", false));
  EXPECT_TRUE(contains(complaint([&](Json& j) { layer(j)["mlp"]["in"]["kind"] = "rmss"; }), "did you mean 'rms'?"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { layer(j)["mlp"].erase("skip"); }), "layers[1].mlp.skip' is missing"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { layer(j)["attention"]["skip"] = "block"; }), "attention.skip"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { layer(j)["mlp"]["alpha"] = "1"; }), "alpha' must be a finite number"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { layer(j)["mlp"]["in"]["eps"] = -1.0; }), "eps"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { layer(j) = 3; }), "layers[1]' must be an object"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j["norm_plan"]["layers"].erase(0); }), "must have"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j.erase("norm_plan"); }), "'norm_plan' is missing"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j["num_hidden_layers"] = 1 << 30; }), "mlp_kinds"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j["mlp_kinds"][0] = "sparse"; }), "layer 0 has 'sparse'"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j["mlp_kinds"][0] = "moe"; }), "'num_experts' is missing"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j["attention_kind"] = "mqa"; }), "attention_kind"));
  EXPECT_TRUE(contains(complaint([&](Json& j) { j["unpadded_vocab_size"] = 65; }), "embedding_rows"));
}

// Several small files hold the same tensors as one file, and an index says which tensor is where.
TEST(HfWeightFiles, AreSplitBySize) {
  const HfFolder original(testing::fixture_root() / "hf" / "olmoe_tied");
  HfExportOptions options;
  options.max_shard_bytes = 9'000;
  const TemporaryFolder out;
  const HfModel model = hf_model_of(original.model().model, original.model().plan);
  write_hf_folder(out.path(), model, options, original);
  EXPECT_FALSE(fs::exists(out.path() / "model.safetensors"));
  const Json index = read_json(out.path() / "model.safetensors.index.json", 1 << 20);
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors_of(out.path())) bytes += tensor.second.size();
  EXPECT_EQ(index.at("metadata").at("total_size").get<std::uint64_t>(), bytes);
  EXPECT_TRUE(tensors_of(out.path()) == tensors_of(testing::fixture_root() / "hf" / "olmoe_tied"));
  EXPECT_NO_THROW(HfFolder(out.path()));
}

}  // namespace
}  // namespace norma
