// norma import makes a run, which every command takes, out of the weights of other programs.
#include <cstring>
#include <fstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "norma/interop/hf_folder.h"
#include "norma/interop/olmo_folder.h"

#include "support/errors.h"
#include "support/hf_expected.h"
#include "support/imported_run.h"
#include "support/job.h"
#include "support/registration.h"
#include "support/small_tokenizer.h"
#include "support/workplace.h"

namespace norma {
namespace {

using testing::expect_failure;
using testing::ImportedRun;
using testing::ProgramResult;
using testing::run_norma;
using testing::TemporaryFolder;

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

fs::path hf_fixture(const std::string& name) {
  return fs::path(NORMA_SOURCE_DIR) / "tests/fixtures/hf" / name;
}

ProgramResult import(const fs::path& source, const fs::path& out, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"import", source.string(), "--out", out.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_norma(arguments);
}

void hf_case(const fs::path& path) {
  const TemporaryFolder folder;
  const fs::path run = folder.path() / "run";
  const ProgramResult result = import(path, run);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  ImportedRun imported(run);
  EXPECT_TRUE(imported.plan == HfFolder(path).model().plan);
  const Json expected = read_json(path / "expected.json", 1 << 22);
  EXPECT_LE(largest_difference(imported.logits(testing::expected_ids(expected)), testing::expected_logits(expected)),
            5e-5);
}

const bool kRegistered = testing::announce([] { testing::register_folder_cases("ImportFixtures", "hf", &hf_case); });

// A copy of a fixture's folder, to be changed.
class Copy {
 public:
  explicit Copy(const std::string& name) : path_(folder_.path() / name) {
    fs::copy(hf_fixture(name), path_);
    for (const auto& entry : fs::directory_iterator(path_)) {
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    }
  }
  const fs::path& path() const { return path_; }
  fs::path out() const { return folder_.path() / "run"; }
  void change(const char* key, const Json& value, const char* file = "config.json") const {
    Json json = read_json(path_ / file, 1 << 20);
    json[key] = value;
    std::ofstream(path_ / file) << json.dump();
  }

 private:
  TemporaryFolder folder_;
  fs::path path_;
};

TEST(Import, TrainingStartsFromTheImportedWeights) {
  const testing::Workplace work;
  const fs::path run = work.path("imported");
  ASSERT_EQ(import(hf_fixture("qwen3_tied"), run, {"train.global_batch_size=8"}).exit_code, 0);
  // Before the first step another batch size or sequence length is no difference.
  const std::vector<std::string> settings = {"data.paths=[" + work.path("train.npy") + "]",
                                             "data.dtype=uint16",
                                             "checkpoint.resume=" + (run / "step-0").string(),
                                             "run.folder=" + work.path("trained"),
                                             "run.threads=1",
                                             "train.global_batch_size=4",
                                             "train.micro_batch_size=4",
                                             "train.max_duration=1",
                                             "model.sequence_length=16",
                                             "schedule.warmup=0",
                                             "optim.lr=1e-4",
                                             "eval.every=0"};
  std::vector<std::string> arguments = {"train", (run / "config.yaml").string()};
  arguments.insert(arguments.end(), settings.begin(), settings.end());
  const ProgramResult trained = run_norma(arguments);
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_TRUE(testing::contains(trained.err, "resuming at step 0 from"));
  const ImportedRun before(run), after(work.path("trained"));
  EXPECT_EQ(after.folder.filename(), "step-1");
  for (std::size_t u = 0; u < before.engine->flat_units().size(); ++u) {
    const double moved =
        largest_difference(before.engine->flat_units()[u].master, after.engine->flat_units()[u].master);
    EXPECT_GT(moved, 0.0) << u;
    EXPECT_LT(moved, 2.1e-4) << u;  // AdamW's first step is at most the learning rate, and decay adds a little
  }
}

TEST(Import, TheConfigItWritesResumesWithoutMore) {
  const testing::Workplace work;
  const fs::path run = work.path("imported");
  ASSERT_EQ(import(hf_fixture("olmoe_tied"), run).exit_code, 0);
  EXPECT_EQ(run_norma({"inspect", run.string(), "--verify"}).exit_code, 0);
  const ProgramResult trained =
      run_norma({"train", (run / "config.yaml").string(), "data.paths=[" + work.path("train.npy") + "]",
                 "data.dtype=uint16", "run.folder=" + run.string(), "train.global_batch_size=2",
                 "train.micro_batch_size=2", "train.max_duration=1", "schedule.warmup=0", "model.sequence_length=16"});
  EXPECT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_TRUE(fs::exists(run / "step-1"));
}

TEST(CheckpointWeights, SeveralRanksGiveTheWeightsOfOneFile) {
  const testing::JobWorkplace work;
  testing::Job job(work, 2, "run", {"parallel.strategy=full_shard", "train.max_duration=2", "schedule.warmup=0"});
  testing::expect_exit(job.wait(), 0);
  const fs::path file = work.path("one.safetensors");
  ASSERT_EQ(run_norma({"export", work.path("run"), "--out", file.string()}).exit_code, 0);
  const fs::path checkpoint = find_newest_checkpoint(work.path("run")).folder.value();
  const Manifest manifest = open_checkpoint(checkpoint);
  EXPECT_EQ(manifest.world_size, 2);
  const CheckpointReader reader(checkpoint, manifest);
  const SafetensorsFile one(file);
  for (const TensorInfo& tensor : one.header().tensors) {
    const std::int64_t numel = element_count(tensor.shape).value(), begin = numel / 4;
    const at::Tensor want = at::empty({numel}, at::kFloat), got = at::empty({numel - begin}, at::kFloat);
    std::memcpy(want.mutable_data_ptr(), one.bytes(tensor.name).data(), want.nbytes());
    reader.read(tensor.name, begin, got);
    EXPECT_TRUE(at::equal(got, want.narrow(0, begin, numel - begin))) << tensor.name;
  }
}

TEST(Import, TheTokenizerComesAlong) {
  const Copy copy("llama_untied");
  std::ofstream(copy.path() / "tokenizer.json") << testing::small_tokenizer_json().dump();
  const ProgramResult refused = import(copy.path(), copy.out());
  expect_failure(refused, 3, {"tokenizer.json has 273 ids", "only 96", "not this model's tokenizer"});
  EXPECT_FALSE(fs::exists(copy.out()));
  std::ofstream(copy.path() / "tokenizer.json") << "{}";
  const ProgramResult left = import(copy.path(), copy.out());
  EXPECT_EQ(left.exit_code, 0);
  EXPECT_TRUE(testing::contains(left.err, "the tokenizer is left behind"));
}

// The model has more ids than the tokenizer, and those beyond it are padding. Commands that need text find the
// tokenizer in the run.
TEST(Import, ANamedTokenizerBecomesTheRuns) {
  const testing::Workplace work;
  const testing::ProgramResult trained =
      work.train("run", {"model.vocab_size=288", "model.embedding_rows=288", "train.max_duration=1",
                         "schedule.warmup=0", "eval.every=0", "norm.preset=hybrid"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const ImportedRun source(work.path("run"));
  const fs::path file = work.path("weights.safetensors"), tokenizer = work.path("some_tokenizer.json");
  export_olmo(file, source.config.model, source.plan, CheckpointReader(source.folder, open_checkpoint(source.folder)),
              OlmoKeys::plain);
  std::ofstream(tokenizer) << testing::small_tokenizer_json().dump();
  const std::string config = work.path("run/config.resolved.yaml");
  const fs::path out = work.path("imported");
  const ProgramResult result =
      import(file, out, {"--config", config, "--tokenizer", tokenizer.string(), "model.vocab_size=273"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const ImportedRun imported(out);
  EXPECT_EQ(imported.config.model.vocab_size, 273);
  EXPECT_EQ(imported.config.model.rows(), 288);
  EXPECT_EQ(run_norma({"generate", out.string(), "--prompt", "a low", "--max-tokens", "2"}).exit_code, 0);
  expect_failure(import(file, out.string() + "2", {"--config", config, "--tokenizer", work.path("none")}), 3, {"none"});
}

TEST(Import, RefusesFoldersByName) {
  const Copy missing("llama_untied");
  missing.change("num_hidden_layers", 3);
  expect_failure(import(missing.path(), missing.out()), 3, {"lacks model.layers.2."});
  EXPECT_FALSE(fs::exists(missing.out()));
  const Copy extra("llama_untied");
  extra.change("num_hidden_layers", 1);
  expect_failure(import(extra.path(), extra.out()), 3, {"model.layers.1.", "does not belong to a llama model"});
  const Copy wide("olmo2_tied");
  wide.change("intermediate_size", 50);
  expect_failure(import(wide.path(), wide.out()), 3, {"must have the shape [50,", "by config.json"});
  const Copy index("olmoe_untied_sharded");
  Json map = read_json(index.path() / "model.safetensors.index.json", 1 << 20).at("weight_map");
  map.begin().value() = "../x";
  index.change("weight_map", map, "model.safetensors.index.json");
  expect_failure(import(index.path(), index.out()), 3, {"must lie in a file of the same folder", "../x"});
}

TEST(Import, RefusesWhatWouldBeAnotherModel) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  expect_failure(import(hf_fixture("llama_tied_bf16"), out, {"norm.preset=post", "model.num_layers=9"}), 2,
                 {"norm.preset: pre -> post", "-> 9"});
  expect_failure(import(hf_fixture("llama_tied_bf16"), out, {"model.embedding_rows=200"}), 2,
                 {"model.embedding_rows: ", "-> 200"});
  expect_failure(import(hf_fixture("llama_tied_bf16"), out, {"model.d_modle=3"}), 2, {"did you mean 'model.d_model'"});
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

// A setting that is left to its default, or a placement written as edits of another preset, may mean the same model.
TEST(Import, SettingsMayDescribeTheSameModelInOtherWords) {
  const TemporaryFolder folder;
  const fs::path ours = folder.path() / "ours.yaml", out = folder.path() / "run";
  const ModelConfig m = HfFolder(hf_fixture("llama_untied")).model().model;
  std::ofstream(ours) << cat(
      "model: {d_model: ", m.d_model, ", num_layers: ", m.num_layers, ", num_heads: ", m.num_heads,
      ", num_kv_heads: ", m.kv_heads(), ", mlp_dim: ", m.mlp_dim, ", vocab_size: 90, embedding_rows: ", m.rows(),
      ", tie_embeddings: false, rope_theta: ", m.rope_theta, ", sequence_length: 16}\nnorm: {preset: qk, eps: ",
      shortest(HfFolder(hf_fixture("llama_untied")).model().norm.eps),
      ", layers: {all: {inner: {q: none, k: none}}}}\noptim: {lr: 0.25}\n");
  const ProgramResult result = import(hf_fixture("llama_untied"), out, {"--config", ours.string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(ImportedRun(out).config.optim.lr, 0.25);
}

TEST(Import, RefusesPathsByName) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  expect_failure(import(folder.path() / "nowhere", out), 3, {"does not exist"});
  expect_failure(import(folder.path(), out), 3, {"holds no config.json"});
  std::ofstream(folder.path() / "model.pt") << "x";
  expect_failure(import(folder.path() / "model.pt", out), 3, {"Python pickles (.pt, .bin) are not read"});
  expect_failure(import(hf_fixture("llama_untied"), folder.path()), 2, {"is not empty"});
  expect_failure(import(hf_fixture("llama_untied"), folder.path() / "model.pt"), 2, {"must be a folder"});
  ASSERT_EQ(import(hf_fixture("llama_untied"), out).exit_code, 0);
  expect_failure(import(out, folder.path() / "again"), 3, {"is a checkpoint or a run already"});
}

}  // namespace
}  // namespace norma
