// norma export --to hf as a user runs it, with transformers loading the folders. This test has a few placements;
// scripts/campaign.sh exports has all of them, dense and with experts, with grouped and with latent attention.
#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "norma/base/json.h"
#include "norma/checkpoint/safetensors.h"

#include "support/small_tokenizer.h"
#include "support/workplace.h"

namespace norma {
namespace {

using testing::expect_failure;
using testing::Program;
using testing::ProgramResult;
using testing::run_norma;
using testing::Workplace;

namespace fs = std::filesystem;

constexpr const char* kConfig = R"(
run: {seed: 7, threads: 1}
model: {d_model: 32, num_layers: 3, num_heads: 4, num_kv_heads: 2, mlp_dim: 48, vocab_size: 61, embedding_rows: 64,
        sequence_length: 24, rope_theta: 10000}
data: {dtype: uint16}
train: {max_duration: 5, global_batch_size: 4, micro_batch_size: 4}
optim: {lr: 5e-2}
schedule: {warmup: 0}
checkpoint: {every: 0}
metrics: {tensorboard: false}
)";

// Sites, kinds, eps, factors and skips that differ from layer to layer.
constexpr const char* kOtherInEveryLayer = R"(norm.layers={
  '0': {attention: {in: {kind: layer, eps: 1e-3}, out: rms, skip: normed, in_gain: 0.7, alpha: 1.3, beta: 0.6},
        mlp: {in: none, sum: layer, skip: block, beta: 1.5}, inner: {q: layer, k: rms, context: {kind: rms, gain_init: 0.5}}},
  '1': {attention: {in: none, sum: {kind: rms, eps: 0}, in_gain: 1.2}, mlp: {out: layer, skip: normed, alpha: 0.9},
        inner: {q: {kind: rms, granularity: whole}, v: {kind: rms, granularity: whole},
                context: {kind: layer, granularity: whole}}},
  '2': {attention: {skip: normed}, mlp: {in: rms, out: rms, sum: rms, skip: block}, inner: {v: rms, k: {kind: rms, eps: 1e-2}}}})";

using Words = std::vector<std::string>;

struct Case {
  std::string name;
  Words settings;
  std::string type;  // model_type of the folder
  Words options{};   // of the export
};

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Words kExperts = {"model.mlp=moe", "model.moe={num_experts: 6, top_k: 2, expert_dim: 20}", "model.num_kv_heads=4",
                        "model.tie_embeddings=false"};
const Words kLatent = {"model.num_kv_heads=null",
                       "model.attention={kind: mla, q_rank: 24, kv_rank: 16, nope_dim: 8, rope_dim: 4, value_dim: 12}"};
// As DeepSeek-V3: RoPE rotates neighbours; groups, a selection bias, a shared expert, a dense layer, YaRN.
const Words kDeepSeek = {
    "model.num_kv_heads=null",
    "model.attention={kind: mla, kv_rank: 16, nope_dim: 8, rope_dim: 4, value_dim: 12, rope_pairs: adjacent}",
    "model.mlp=moe",
    R"(model.moe={num_experts: 8, top_k: 3, expert_dim: 20, shared_experts: 1, scoring: sigmoid, normalize_weights: true,
        routed_scale: 2.5, groups: 4, top_groups: 2, group_score: top2, selection_bias: true,
        router_precision: fp32})",
    "model.layers={'0': {mlp: dense}}",
    "model.rope={scaling: yarn, factor: 4, original_length: 8, mscale: 0.7, mscale_all_dim: 0.9}"};

Words placed(const std::string& preset) {
  Words settings = {"norm.preset=" + preset};
  if (preset.starts_with("mix")) settings.push_back("norm.post_layers=1");
  return settings;
}

std::vector<Case> few_cases() {
  return {
      {"pre", placed("pre"), "llama"},
      {"olmoe", placed("olmoe") + kExperts, "olmoe"},
      {"hybrid_deepseek", placed("hybrid") + kDeepSeek, "norma"},
      {"deepseek", placed("pre") + kDeepSeek, "deepseek_v3"},
      {"wild", {"norm.preset=pre", kOtherInEveryLayer, "model.clip_qkv=0.5", "model.head_dim=12"}, "norma"},
      {"bf16",
       placed("deep") + kExperts + Words{"precision=bf16"},
       "norma",
       {"--dtype", "bf16", "--max-shard-size", "30KB"}},
  };
}

// Every named placement with every kind of attention and MLP.
std::vector<Case> all_cases() {
  std::vector<Case> cases = few_cases();
  const std::map<std::string, Words> makes = {
      {"dense", {}}, {"experts", kExperts}, {"latent", kLatent}, {"deepseek", kDeepSeek}};
  const std::map<std::string, std::map<std::string, std::string>> stock = {
      {"pre", {{"dense", "llama"}, {"latent", "deepseek_v3"}, {"deepseek", "deepseek_v3"}}},
      {"qk", {{"dense", "qwen3"}, {"experts", "qwen3_moe"}}},
      {"olmo2", {{"dense", "olmo2"}}},
      {"olmoe", {{"experts", "olmoe"}}}};
  for (const char* preset :
       {"pre", "post", "qk", "qkv", "hybrid", "hybrid_star", "mix", "deep", "span", "olmo2", "olmoe", "sandwich",
        "peri", "lns", "post_shifted", "mix_shifted", "pre_qkvc_post", "kc"}) {
    for (const auto& [make, settings] : makes) {
      const bool whole_keys = std::string_view(preset).starts_with("olmo");
      if (whole_keys && (make == "latent" || make == "deepseek")) continue;
      const auto of_preset = stock.find(preset);
      const bool is_stock = of_preset != stock.end() && of_preset->second.contains(make);
      cases.push_back(
          {cat("all_", preset, "_", make), placed(preset) + settings, is_stock ? of_preset->second.at(make) : "norma"});
    }
  }
  cases.push_back({"always", placed("pre"), "norma", {"--remote-code", "always"}});
  cases.push_back({"wild_experts", Words{"norm.preset=pre", kOtherInEveryLayer} + kExperts, "norma"});
  return cases;
}

bool runs_all() {
  const char* const wanted = std::getenv("NORMA_EXPORTS");
  return wanted != nullptr && std::string_view(wanted) == "all";
}

Json config_of(const fs::path& folder) {
  return read_json(folder / "config.json", 1 << 20);
}

// Trains a few steps at a rate that moves every gain, and exports.
void make_folder(const Workplace& work, const Case& one) {
  const Words train = {"train", work.path("tiny.yaml"), "data.paths=[" + work.path("train.npy") + "]",
                       "run.folder=" + work.path(one.name + "-run")};
  const ProgramResult trained = run_norma(train + one.settings);
  ASSERT_EQ(trained.exit_code, 0) << one.name << "\n" << trained.err;
  const Words exported = {"export", work.path(one.name + "-run"), "--to",     "hf",
                          "--out",  work.path(one.name),          "--logits", work.path(one.name + ".json")};
  const ProgramResult result = run_norma(exported + one.options);
  ASSERT_EQ(result.exit_code, 0) << one.name << "\n" << result.err;
  EXPECT_EQ(config_of(work.path(one.name)).at("model_type"), one.type) << one.name;
  EXPECT_EQ(fs::exists(fs::path(work.path(one.name)) / "modeling_norma.py"), one.type == "norma") << one.name;
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A folder that transformers loaded and saved, imported and exported again, has the same files.
void expect_saved_model_is_the_same(const Workplace& work, const Case& one) {
  const std::string run = work.path(one.name + "-saved-run"), out = work.path(one.name + "-again");
  const ProgramResult imported = run_norma({"import", work.path("saved/" + one.name), "--out", run});
  ASSERT_EQ(imported.exit_code, 0) << one.name << "\n" << imported.err;
  const ProgramResult exported = run_norma(Words{"export", run, "--to", "hf", "--out", out} + one.options);
  ASSERT_EQ(exported.exit_code, 0) << one.name << "\n" << exported.err;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(work.path(one.name))) {
    const fs::path name = entry.path().filename();
    EXPECT_TRUE(text_of(entry.path()) == text_of(out / name)) << one.name << ": " << name;
    ++files;
  }
  EXPECT_GE(files, 2U) << one.name;
}

TEST(HfProgram, TransformersComputesWhatNormaDoes) {
  const Workplace work(kConfig);
  std::ofstream(work.path("tokenizer.json")) << testing::small_tokenizer_json().dump();
  std::vector<Case> cases = runs_all() ? all_cases() : few_cases();
  cases.push_back({"with_tokenizer",
                   placed("qkv") + Words{"model.vocab_size=300", "model.embedding_rows=320"},
                   "norma",
                   {"--tokenizer", work.path("tokenizer.json")}});
  Words arguments = {std::string(NORMA_SOURCE_DIR) + "/scripts/check_hf_export.py", "--keep-saved", work.path("saved")};
  for (const Case& one : cases) {
    make_folder(work, one);
    if (HasFatalFailure()) return;
    arguments.push_back(work.path(one.name));
  }
  EXPECT_TRUE(fs::exists(work.path("bf16/model.safetensors.index.json")));
  EXPECT_EQ(config_of(work.path("with_tokenizer")).at("eos_token_id").get<int>(),
            testing::small_tokenizer_json()["added_tokens"][0]["id"].get<int>());

  const fs::path python = fs::path(NORMA_SOURCE_DIR) / ".venv/bin/python";
  if (!fs::exists(python) || !fs::exists(fs::path(NORMA_SOURCE_DIR) / ".cache/transformers")) {
    GTEST_SKIP() << "transformers is not installed: the folders were written and read again, not loaded there";
  }
  Program checker(python, arguments, {{"OMP_NUM_THREADS", "1"}});
  const ProgramResult checked = checker.wait();
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
  for (const Case& one : cases) expect_saved_model_is_the_same(work, one);
}

TEST(HfProgram, RefusesWhatItCannotDoAndLeavesNothingBehind) {
  const Workplace work(kConfig);
  ASSERT_EQ(work.train("run", {"model.document_separator=60"}).exit_code, 0);
  const auto exported = [&](const Words& more) {
    return run_norma(Words{"export", work.path("run"), "--out", work.path("out")} + more);
  };
  expect_failure(exported({"--to", "hff"}), 2, {"safetensors, hf", "did you mean 'hf'?"});
  expect_failure(exported({"--dtype", "bf16"}), 2, {"--dtype is for --to hf"});
  expect_failure(exported({"--to", "hf", "--dtype", "fp16"}), 2, {"--dtype must be one of fp32, bf16"});
  expect_failure(exported({"--to", "hf"}), 2, {"document_separator", "--ignore-document-separator"});
  expect_failure(exported({"--to", "hf", "--ignore-document-separator", "--tokenizer", work.path("none.json")}), 3,
                 {"none.json"});
  expect_failure(exported({"--to", "hf", "--logits", work.path("none/logits.json")}), 2,
                 {"--logits", "must lie in a folder"});
  EXPECT_FALSE(fs::exists(work.path("out")));
  fs::create_directory(work.path("out"));  // an empty folder is allowed
  EXPECT_EQ(exported({"--to", "hf", "--ignore-document-separator"}).exit_code, 0);
  expect_failure(exported({"--to", "hf", "--ignore-document-separator"}), 2, {"is not empty"});
  expect_failure(run_norma({"export", work.path("run"), "--to", "hf", "--out", work.path("run/step-5/hf")}), 2,
                 {"lies in a checkpoint"});
  for (const auto& entry : fs::directory_iterator(fs::path(work.path("run")).parent_path())) {
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  }
}

}  // namespace
}  // namespace norma
