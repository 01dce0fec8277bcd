// OLMo's names, keys and configs: what the parity models are called there, out to a file and in again.
#include <fstream>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/config/foreign_yaml.h"
#include "norma/interop/olmo_folder.h"

#include "support/errors.h"
#include "support/fixture_model.h"
#include "support/fixtures.h"
#include "support/imported_run.h"
#include "support/memory_limit.h"
#include "support/program.h"
#include "support/registration.h"

namespace norma {
namespace {

using testing::contains;
using testing::error_text;
using testing::FixtureModel;
using testing::run_norma;
using testing::TemporaryFolder;

fs::path parity_fixture(const std::string& name) {
  return fs::path(NORMA_SOURCE_DIR) / "tests/fixtures/parity" / (name + ".json");
}

// The model's own parameters.
class ModelWeights final : public WeightReader {
 public:
  explicit ModelWeights(const FixtureModel& f) {
    for (const Unit& unit : f.model->units()) {
      for (const UnitParameter& p : unit.parameters) values_[p.name] = p.tensor.detach().flatten();
    }
  }
  void read(const std::string& name, std::int64_t begin, const at::Tensor& out) const override {
    out.copy_(values_.at(name).narrow(0, begin, out.numel()));
  }

 private:
  std::map<std::string, at::Tensor> values_;
};

// The fixtures give norms on outputs names of their own; OLMo calls them by where they would stand otherwise.
std::string olmos_own_name(std::string name) {
  const std::size_t at = name.find("_out_norm");
  return at == std::string::npos ? name : name.erase(at, 4);
}

at::Tensor stored(const SafetensorsFile& file, const std::string& name) {
  const at::Tensor values = at::empty(file.find(name)->shape, at::kFloat);
  const auto bytes = file.bytes(name);
  std::memcpy(values.mutable_data_ptr(), bytes.data(), bytes.size());
  return values;
}

// Out under OLMo's names, value by value as the fixture's formula gives them, and in again.
void round_trip(const FixtureModel& f, OlmoKeys keys) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "olmo.safetensors";
  const ModelWeights own(f);
  export_olmo(path, f.config, f.plan, own, keys);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.header().tensors.size(), f.parameters.size());
  for (const Json& parameter : f.fixture.at("parameters")) {
    const std::string theirs = parameter.at(0).get<std::string>(), name = olmos_own_name(theirs);
    const std::string key = keys == OlmoKeys::encoded ? olmo_key(name) : name;
    ASSERT_NE(file.find(key), nullptr) << name;
    EXPECT_EQ(file.find(key)->shape, parameter.at(1).get<std::vector<std::int64_t>>()) << name;
    EXPECT_TRUE(at::equal(stored(file, key), f.parameters.at(theirs).value().to(at::kFloat))) << name;
  }
  const OlmoWeights weights(path, f.config, f.plan);
  for (const UnitSpec& unit : model_parameters(f.config, f.plan)) {
    for (const ParameterSpec& p : unit.parameters) {
      const std::int64_t begin = p.numel() / 3;  // inside of an expert, too
      const at::Tensor want = at::empty({p.numel() - begin}, at::kFloat), got = at::empty_like(want);
      own.read(p.name, begin, want);
      weights.read(p.name, begin, got);
      EXPECT_TRUE(at::equal(want, got)) << p.name;
    }
  }
}

// Placements that OLMo's code, or HybridNorm's, cannot build, and what says so.
const std::map<std::string, std::string>& without_names() {
  static const std::map<std::string, std::string> kCases = {
      {"dense_deep", "no final norm"},
      {"dense_every_site", "layer 0's attention has a norm on its sum"},
      {"dense_lns", "layer 1's attention has factors"},
      {"dense_mix", "layer 0's attention has a norm on its sum"},
      {"dense_peri", "layer 0's attention has norms on its input and its output"},
      {"dense_post", "no final norm"},
      {"dense_qkc_post_context_whole", "layer 0's attention must norm both q and k"},
      {"dense_qkvc_whole", "layer 0's attention norms more than q and k"},
      {"dense_sandwich", "layer 0's attention has norms on its input and its output"},
      {"dense_span", "no final norm"},
      {"moe_deep", "no final norm"},
      {"moe_every_site", "layer 0's attention has a norm on its sum"},
      {"moe_span", "no final norm"},
  };
  return kCases;
}

void parity_case(const fs::path& path) {
  const c10::NoGradGuard no_grad;
  const FixtureModel f(path);
  const auto refused = without_names().find(path.stem().string());
  if (refused != without_names().end()) {
    const std::string text = error_text<ConfigError>([&] { olmo_ranges(f.config, f.plan); });
    EXPECT_TRUE(contains(text, refused->second));
    return;
  }
  round_trip(f, OlmoKeys::plain);
  round_trip(f, OlmoKeys::encoded);
}

const bool kRegistered =
    testing::announce([] { testing::register_fixture_cases("OlmoParityFixtures", "parity", &parity_case); });

TEST(OlmoKeys, AreThoseOfPythonsPickle) {
  const std::string name = "transformer.wte.weight", key = "gASVHwAAAAAAAACMFnRyYW5zZm9ybWVyLnd0ZS53ZWlnaHSUhZSJhpQu";
  EXPECT_EQ(olmo_key(name), key);
  EXPECT_EQ(olmo_name(key), name);
  for (const std::string& one : {std::string(), std::string("a.b"), std::string(255, 'n')}) {
    EXPECT_EQ(olmo_name(olmo_key(one)), one);
  }
}

TEST(OlmoKeys, NothingElseIsRead) {
  const std::string key = olmo_key("transformer.wte.weight");
  for (std::size_t i = 0; i < key.size(); ++i) {
    std::string changed = key;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    const auto name = olmo_name(changed);
    EXPECT_TRUE(!name || olmo_key(*name) == changed) << i;
    EXPECT_EQ(olmo_name(key.substr(0, i)), std::nullopt) << i;
  }
  EXPECT_EQ(olmo_name(key + "AAAA"), std::nullopt);
  EXPECT_EQ(olmo_name("not base64!"), std::nullopt);
  // ((name,), True): a pickled value; ((a, b), False): a name in two parts.
  EXPECT_EQ(olmo_name("gASVCwAAAAAAAACMAWGUhZSIhpQu"), std::nullopt);
  EXPECT_EQ(olmo_name("gASVDwAAAAAAAACMAWGUjAFilIaUiYaULg=="), std::nullopt);
}

// HybridNorm's own files say what they mean; these are their keys on the parity models' shapes.
constexpr const char* kDense = R"(
run_name: x
model:
  d_model: 32
  n_heads: 4
  n_kv_heads: 2
  n_layers: 3
  mlp_hidden_size: 96
  vocab_size: 61
  embedding_size: 64
  rope: true
  rope_theta: 500000
  include_bias: false
  layer_norm_type: rms
  layer_norm_eps: 1e-5
  weight_tying: true
  max_sequence_length: 16
  attention_dropout: 0.0
)";
constexpr const char* kHybrid = R"(  use_query_norm: true
  use_key_norm: true
  use_value_norm: true
  attn_norm: false
  ffn_residual_after_norm: true
)";
constexpr const char* kStar = R"(  norm_pos_special_config: "_{0:{'attn_norm':True,'ffn_residual':False}}_"
)";
constexpr const char* kExperts = R"(  block_type: moe
  moe_num_experts: 4
  moe_loss_weight: 0.01
  moe_zloss_weight: 0.001
)";

OlmoModel read_config(const std::string& text) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "config.yaml") << text;
  return read_olmo_config(read_foreign_yaml(folder.path() / "config.yaml"), "config.yaml");
}

std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

std::string experts(const std::string& more) {
  return with(with(kDense, "weight_tying: true", "weight_tying: false"), "mlp_hidden_size: 96", "mlp_hidden_size: 48") +
         kExperts + more;
}

// A checkpoint out under OLMo's names is the file it came from, byte by byte.
void expect_same_file(const fs::path& run, const fs::path& file) {
  const testing::ImportedRun imported(run);
  const fs::path again = run / "again.safetensors";
  export_olmo(again, imported.config.model, imported.plan,
              CheckpointReader(imported.folder, open_checkpoint(imported.folder)), OlmoKeys::encoded);
  EXPECT_EQ(read_file(again, 1 << 24), read_file(file, 1 << 24));
}

// A fixture's model written as OLMo would, and imported by the program.
void expect_same_logits(const std::string& fixture, const std::string& config) {
  const FixtureModel f(parity_fixture(fixture));
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "olmo");
  export_olmo(folder.path() / "olmo/model.safetensors", f.config, f.plan, ModelWeights(f), OlmoKeys::encoded);
  std::ofstream(folder.path() / "olmo/config.yaml") << config;
  const auto result =
      run_norma({"import", (folder.path() / "olmo").string(), "--out", (folder.path() / "run").string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  testing::ImportedRun run(folder.path() / "run");
  EXPECT_TRUE(run.plan == f.plan) << fixture << "\n" << to_table(run.plan);
  EXPECT_EQ(run.config.model.moe.z_loss, f.config.moe.z_loss);
  const c10::NoGradGuard no_grad;
  const at::Tensor want = f.model->logits(f.ids, *f.engine), got = run.logits(f.ids);
  EXPECT_LE((got - want).abs().max().item<double>(), 5e-5) << fixture;
  expect_same_file(folder.path() / "run", folder.path() / "olmo/model.safetensors");
}

TEST(OlmoImport, EveryCodesPlacementsComeBack) {
  const std::string dense = kDense, whole = "  attention_layer_norm: true\n";
  expect_same_logits("dense_pre", dense);
  expect_same_logits("dense_olmo2", dense + whole + "  norm_after: true\n");
  expect_same_logits("dense_olmoe", dense + whole);
  expect_same_logits("dense_hybrid", dense + kHybrid);
  expect_same_logits("dense_hybrid_star", dense + kHybrid + kStar);
  expect_same_logits("dense_post_embed_norm",
                     dense + "  attn_residual_after_norm: true\n  ffn_residual_after_norm: true\n");
  expect_same_logits("dense_mix_ln_shifted",
                     dense +
                         "  norm_pos_special_config: '{0: {\"attn_residual\": True, \"ffn_residual\": True}, "
                         "1: {\"attn_residual\": True},}'\n");
  expect_same_logits("moe_hybrid_star", experts(std::string(kHybrid) + kStar));
  expect_same_logits("moe_olmoe", experts(whole));
}

TEST(OlmoImport, AConfigOfOursMayDescribeTheModel) {
  const FixtureModel f(parity_fixture("dense_hybrid"));
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "weights.safetensors", out = folder.path() / "run";
  export_olmo(file, f.config, f.plan, ModelWeights(f), OlmoKeys::plain);
  testing::ProgramResult result = run_norma({"import", file.string(), "--out", out.string()});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "name OLMo's config.yaml, or a config of ours, with --config"));
  std::ofstream(folder.path() / "ours.yaml")
      << "model: {d_model: 32, num_layers: 3, num_heads: 4, num_kv_heads: 2, mlp_dim: 48, vocab_size: 61,\n"
         "        embedding_rows: 64}\nnorm: {preset: hybrid}\noptim: {lr: 0.125}\n";
  const std::string ours = (folder.path() / "ours.yaml").string();
  result = run_norma({"import", file.string(), "--out", out.string(), "--config", ours});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(testing::ImportedRun(out).config.optim.lr, 0.125);
  std::ofstream(ours, std::ios::app) << "init: {scheme: normal}\n";
  result = run_norma({"import", file.string(), "--out", out.string() + "2", "--config", ours, "norm.preset=qkv"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "norm.preset: hybrid -> qkv"));
}

TEST(OlmoImport, TensorsMustBeThoseOfTheConfig) {
  const FixtureModel f(parity_fixture("dense_pre"));
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "olmo.safetensors";
  export_olmo(file, f.config, f.plan, ModelWeights(f), OlmoKeys::plain);
  const auto error_with = [&](const std::string& config) {
    const OlmoModel olmo = read_config(config);
    return error_text<DataError>([&] { OlmoWeights(file, olmo.model, olmo.plan); });
  };
  const std::string dense = kDense;
  EXPECT_TRUE(contains(error_with(with(dense, "n_layers: 3", "n_layers: 4")), "lacks transformer.blocks.3."));
  EXPECT_TRUE(contains(error_with(with(dense, "n_layers: 3", "n_layers: 2")), "transformer.blocks.2."));
  EXPECT_TRUE(
      contains(error_with(with(dense, "96", "94")), "must have the shape [94, 32] by the config; got [96, 32]"));
  EXPECT_TRUE(contains(error_with(dense + kHybrid), "lacks transformer.blocks.0.q_norm.weight"));
  EXPECT_TRUE(
      contains(error_with(with(dense, "weight_tying: true", "weight_tying: false")), "lacks transformer.ff_out"));
}

// What the smallest config can ask for.
constexpr const char* kManyExperts = R"(
model: {d_model: 2, n_heads: 1, n_layers: 10000, mlp_hidden_size: 2, block_type: moe, moe_num_experts: 65536,
        vocab_size: 2, include_bias: false, rope: true}
)";
constexpr std::uint64_t kLittleMemory = std::uint64_t{512} << 20;

class Zeros final : public WeightReader {
 public:
  void read(const std::string&, std::int64_t, const at::Tensor& out) const override { out.zero_(); }
};

TEST(OlmoImport, LayersOfTheConfigAloneTakeNoMemory) {
  const FixtureModel f(parity_fixture("dense_pre"));
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "olmo.safetensors";
  export_olmo(file, f.config, f.plan, ModelWeights(f), OlmoKeys::plain);
  const testing::MemoryLimit limit(kLittleMemory);
  const OlmoModel olmo = read_config(kManyExperts);
  EXPECT_TRUE(contains(error_text<DataError>([&] { OlmoWeights(file, olmo.model, olmo.plan); }),
                       "the config says n_layers (model.num_layers) 10000, but there are only 20 tensors"));
}

TEST(OlmoImport, ExpertsOfTheConfigAloneTakeNoMemory) {
  const std::string many = with(kManyExperts, "10000", "100");
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "olmo.safetensors";
  const OlmoModel few = read_config(with(many, "65536", "4"));
  export_olmo(file, few.model, few.plan, Zeros(), OlmoKeys::plain);
  EXPECT_NO_THROW(OlmoWeights(file, few.model, few.plan));
  const testing::MemoryLimit limit(kLittleMemory);
  const OlmoModel olmo = read_config(many);
  EXPECT_TRUE(contains(error_text<DataError>([&] { OlmoWeights(file, olmo.model, olmo.plan); }),
                       "transformer.blocks.0.ffn.router.layer.weight must have the shape [65536, 2] by the config's "
                       "moe_num_experts (model.moe.num_experts) 65536; got [4, 2]"));
}

TEST(OlmoConfig, RefusesWhatItCannotRepresent) {
  const auto error_with = [](const std::string& more) {
    return error_text<DataError>([&] { read_config(kDense + more); });
  };
  EXPECT_TRUE(contains(error_with("  alibi: true\n"), "'alibi' is true, which is not supported"));
  EXPECT_TRUE(contains(error_with("  activation_type: gelu\n"), "'activation_type' must be swiglu; got 'gelu'"));
  EXPECT_TRUE(contains(error_with("  block_group_size: 2\n"), "'block_group_size' must be 1; got 2"));
  EXPECT_TRUE(contains(error_with("  block_type: llama\n"), "must be one of sequential, moe; got 'llama'"));
  EXPECT_TRUE(contains(error_with("  moe_shared_expert: true\n"), "'moe_shared_expert' is true"));
  EXPECT_TRUE(contains(error_with("  norm_aftr: true\n"), "unknown key 'norm_aftr', did you mean 'norm_after'?"));
  EXPECT_TRUE(contains(error_with("  n_layers: 3\n"), "stands twice"));
  EXPECT_TRUE(contains(error_with("  norm_after: true\n  attn_norm: false\n"), "'norm_after' has no meaning beside"));
  EXPECT_TRUE(
      contains(error_with("  mlp_ratio: 5000\n"), "'mlp_ratio' must be a whole number from 0 to 1024; got 5000"));
  const auto without = [](const std::string& line) {
    return error_text<DataError>([&] { read_config(with(kDense, line, "")); });
  };
  EXPECT_TRUE(contains(without("  include_bias: false\n"), "'include_bias' is not given, so it is true"));
  EXPECT_TRUE(contains(without("  rope: true\n"), "'rope' is not given, so it is false"));
  EXPECT_TRUE(contains(without("  d_model: 32\n"), "'d_model' is missing"));
}

TEST(OlmoConfig, TheSwitchByLayerIsNoProgram) {
  const auto error_with = [](const std::string& value) {
    return error_text<DataError>([&] { read_config(cat(kDense, "  norm_pos_special_config: \"", value, "\"\n")); });
  };
  EXPECT_TRUE(contains(error_with("_{(0, 1):{'attn_norm':True}}_"), "a layer's number must follow"));
  EXPECT_TRUE(contains(error_with("__import__('os').system('x')"), "'{' must follow"));
  EXPECT_TRUE(contains(error_with("{0:{'attn_norm':1}}"), "True or False must follow"));
  EXPECT_TRUE(contains(error_with("{0:{'attn_nrm':True}}"), "did you mean 'attn_norm'?"));
  EXPECT_TRUE(contains(error_with("{0:{'attn_norm':True}, 0:{}}"), "layer 0 stands twice"));
  EXPECT_TRUE(contains(error_with("{3:{'attn_norm':True}}"), "names layer 3 of 3"));
  EXPECT_TRUE(contains(error_with("{0:{'attn_norm':True}"), "'}' must follow"));
  EXPECT_TRUE(contains(error_with("{} {}"), "something follows the last brace"));
}

}  // namespace
}  // namespace norma
