// The commands other than train as users run them: what they accept, what they refuse and with which words.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <utility>

#include <gtest/gtest.h>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/text.h"
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

// Changes the working folder while it lives.
class WorkingFolder {
 public:
  explicit WorkingFolder(const fs::path& path) : before_(fs::current_path()) { fs::current_path(path); }
  ~WorkingFolder() { fs::current_path(before_); }
  WorkingFolder(const WorkingFolder&) = delete;
  WorkingFolder& operator=(const WorkingFolder&) = delete;

 private:
  fs::path before_;
};

// A folder with text, tokens and a run that were made with relative names, as people do.
class TextProject {
 public:
  TextProject() {
    const WorkingFolder inside(path(""));
    write_tokenizer(path("tokenizer.json"), testing::kSmallMerges);
    fs::create_directory("text");
    for (int i = 0; i < 20; ++i)
      std::ofstream(cat("text/", i, ".txt")) << "a new low lower newer " << i << " low new\n";
    EXPECT_EQ(run_norma({"prepare", "text", "--tokenizer", "tokenizer.json", "--out", "tokens"}).exit_code, 0);
    const ProgramResult trained =
        run_norma({"train", "tiny.yaml", "data.paths=[tokens/train-*.npy]", "run.folder=run", "model.vocab_size=280",
                   "model.embedding_rows=288", "data.dtype=auto", "train.max_duration=2", "schedule.warmup=0"});
    EXPECT_EQ(trained.exit_code, 0) << trained.err;
  }
  std::string path(const std::string& name) const { return work_.path(name); }

  static void write_tokenizer(const std::string& file, const testing::MergeList& merges) {
    std::ofstream(file) << testing::small_tokenizer_json(merges).dump();
  }
  // By one with the same number of ids, of which some mean another text.
  void replace_tokenizer() const {
    testing::MergeList merges = testing::kSmallMerges;
    std::swap(merges[0], merges[2]);
    std::swap(merges[1], merges[5]);
    write_tokenizer(path("tokens/tokenizer.json"), merges);
  }
  static ProgramResult generate(const std::string& run, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"generate", run, "--prompt", "a low", "--max-tokens", "3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_norma(arguments);
  }

 private:
  Workplace work_;
};

// The lines of metrics.jsonl without the metrics that depend on time.
std::vector<Json> metrics_of(const std::string& run) {
  std::vector<Json> lines;
  for (const std::string& line : split(trim(read_file(run + "/metrics.jsonl", 1 << 24)), '\n')) {
    Json one = parse_json(line, "metrics");
    for (const char* name : {"batches", "tokens"}) one.erase(cat("throughput/device/", name, "_per_second"));
    lines.push_back(one);
  }
  return lines;
}

TEST(ProgramExperts, AreReportedUnderOLMosNamesAndResumeBitwise) {
  const Workplace work;
  const auto train = [&](const std::string& run, const std::string& more) {
    return work.train(run, {"model.mlp=moe", "model.moe={num_experts: 4, expert_dim: 16}", "model.layers.0.mlp=dense",
                            "train.max_duration=4", "eval.every=0", more});
  };
  ASSERT_EQ(train("straight", "checkpoint.every=0").exit_code, 0);
  EXPECT_EQ(train("parts", "train.stop_at=2").exit_code, 75);
  ASSERT_EQ(train("parts", "checkpoint.every=0").exit_code, 0);
  const std::vector<Json> straight = metrics_of(work.path("straight"));
  EXPECT_EQ(metrics_of(work.path("parts")), straight);
  ASSERT_EQ(straight.size(), 4U);
  const Json& last = straight.back();
  double tokens = 0.0, percent = 0.0;
  for (int e = 0; e < 4; ++e) {
    tokens += last.at(cat("train/TokensTotal/layer1/expert", e)).get<double>();
    percent += last.at(cat("train/TokensPercentage/layer1/expert", e)).get<double>();
  }
  EXPECT_NEAR(percent, 100.0, 1e-9);
  EXPECT_EQ(tokens, 2.0 * straight.front().at("throughput/total_tokens").get<double>());
  EXPECT_FALSE(last.contains("train/TokensTotal/layer0/expert0"));
  EXPECT_GE(last.at("train/MaxOverMeanLoad/layer1").get<double>(), 1.0);
  EXPECT_LE(last.at("train/RouterEntropy/layer1").get<double>(), 1.3863);  // log 4
  EXPECT_NEAR(last.at("train/LoadBalancingLoss").get<double>(), 0.01, 0.005);
  EXPECT_GT(last.at("train/MoEZLoss").get<double>(), 0.0);
  const Json plan = parse_json(run_norma({"plan", work.path("tiny.yaml"), "model.mlp=moe", "--json"}).out, "plan");
  EXPECT_LT(plan.at("active_parameters").get<double>(), plan.at("parameters").get<double>());
}

// A run with latent attention, without and with experts, is the same bit by bit when it is stopped and resumed.
TEST(ProgramLatents, ResumeBitwise) {
  const Workplace work;
  const std::string latents =
      "model.attention={kind: mla, q_rank: 24, kv_rank: 16, nope_dim: 8, rope_dim: 4, value_dim: 8}";
  for (const std::string mlp : {"dense", "moe"}) {
    const auto train = [&](const std::string& run, const std::string& more) {
      return work.train(run + mlp, {latents, "model.num_kv_heads=null", "model.mlp=" + mlp,
                                    mlp == "moe" ? "model.moe={num_experts: 4, expert_dim: 16, shared_experts: 1}"
                                                 : "model.mlp_dim=48",
                                    "train.max_duration=4", "eval.every=0", more});
    };
    const ProgramResult straight = train("straight-", "checkpoint.every=0");
    ASSERT_EQ(straight.exit_code, 0) << straight.err;
    EXPECT_EQ(train("parts-", "train.stop_at=2").exit_code, 75);
    ASSERT_EQ(train("parts-", "checkpoint.every=0").exit_code, 0);
    EXPECT_EQ(metrics_of(work.path("parts-" + mlp)), metrics_of(work.path("straight-" + mlp)));
    const auto weights = [&](const std::string& run) {
      return read_file(work.path(run + mlp) + "/step-4/model.safetensors", 1 << 24);
    };
    EXPECT_EQ(weights("parts-"), weights("straight-"));
  }
}

TEST(ProgramGenerate, WorksFromAnyFolder) {
  const TextProject project;
  const WorkingFolder elsewhere("/");
  for (const char* run : {"run", "run/step-2"}) {
    const ProgramResult result = TextProject::generate(project.path(run));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(result.out.starts_with("a low"));
  }
  fs::rename(project.path("tokens"), project.path("moved"));
  const std::string data = fs::canonical(project.path("")).string();
  expect_failure(TextProject::generate(project.path("run")), 3, {"--tokenizer", data, "tokens/train-*.npy"});
  EXPECT_EQ(TextProject::generate(project.path("run"), {"--tokenizer", project.path("moved/tokenizer.json")}).exit_code,
            0);
}

TEST(ProgramGenerate, RefusesATokenizerThatDidNotMakeTheTokens) {
  const TextProject project;
  project.replace_tokenizer();
  const std::string file = project.path("tokens/tokenizer.json");
  {
    const WorkingFolder inside(project.path(""));
    expect_failure(TextProject::generate("run"), 3, {"is not the tokenizer", "--tokenizer"});
  }
  const ProgramResult insisting = TextProject::generate(project.path("run"), {"--tokenizer", file});
  expect_failure(insisting, 0, {"is not the tokenizer"});
  const ProgramResult right =
      TextProject::generate(project.path("run"), {"--tokenizer", project.path("tokenizer.json")});
  EXPECT_EQ(right.exit_code, 0);
  EXPECT_EQ(right.err.find("is not the tokenizer"), std::string::npos) << right.err;
  const ProgramResult inspected = run_norma({"inspect", project.path("tokens/train-00000.npy")});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_NE(inspected.out.find("is not the tokenizer"), std::string::npos) << inspected.out;
}

// A project for the cases that change nothing in it.
const TextProject& shared_project() {
  static const TextProject project;
  return project;
}

TEST(ProgramGenerate, RefusesATokenizerOfAnotherVocabulary) {
  const TextProject& project = shared_project();
  const WorkingFolder inside(project.path(""));
  testing::MergeList merges = testing::kSmallMerges;
  std::swap(merges[0], merges[2]);
  TextProject::write_tokenizer("other.json", merges);  // it has the same number of ids
  expect_failure(TextProject::generate("run", {"--tokenizer", "other.json"}), 3,
                 {"other.json has another vocabulary", "tokens/tokenizer.json", "stands for another text"});
}

TEST(ProgramTrain, RefusesValidationTokensOfAnotherTokenizer) {
  const TextProject& project = shared_project();
  const WorkingFolder inside(project.path(""));
  testing::MergeList merges = testing::kSmallMerges;
  std::swap(merges[0], merges[2]);
  TextProject::write_tokenizer("other.json", merges);
  ASSERT_EQ(run_norma({"prepare", "text", "--tokenizer", "other.json", "--out", "others"}).exit_code, 0);
  expect_failure(run_norma({"train", "tiny.yaml", "data.paths=[tokens/train-*.npy]", "run.folder=second",
                            "eval.sets.v=[others/train-*.npy]", "model.vocab_size=280", "model.embedding_rows=288",
                            "data.dtype=auto", "train.max_duration=2", "schedule.warmup=0"}),
                 3, {"eval.sets.v", "another tokenizer"});
}

TEST(ProgramGenerate, RefusesATokenizerWithMoreIdsThanTheModel) {
  const TextProject& project = shared_project();
  testing::MergeList merges = testing::kSmallMerges;
  for (const char* letter : {"c", "d", "f", "g", "h", "i", "j", "k"}) merges.emplace_back(letter, letter);
  TextProject::write_tokenizer(project.path("large.json"), merges);
  expect_failure(TextProject::generate(project.path("run"), {"--tokenizer", project.path("large.json")}), 3,
                 {"281 ids", "280", "model.vocab_size"});
}

TEST(ProgramGenerate, AnOutputWithoutAFolderIsRefusedBeforeTheWork) {
  expect_failure(run_norma({"generate", "run", "--out", "no/such/a.jsonl"}), 2, {"--out", "must lie in a folder"});
}

TEST(ProgramUsage, MistypedWordsAreNamed) {
  expect_failure(run_norma({"trian"}), 2, {"unknown command 'trian'", "did you mean 'train'?"});
  expect_failure(run_norma({"train", "--dryrun"}), 2, {"unknown option '--dryrun'", "did you mean '--dry-run'?"});
  expect_failure(run_norma({"--dry-run", "train"}), 2, {"'--dry-run' must follow norma train"});
  expect_failure(run_norma({"plan", "--jsn=1"}), 2, {"unknown option '--jsn'", "did you mean '--json'?"});
  expect_failure(run_norma({"generate", "run", "more"}), 2, {"'more'", "norma generate"});
  expect_failure(run_norma({"plan", ""}), 2, {"which config?"});
}

TEST(ProgramUsage, NumbersOfOptionsAreChecked) {
  for (const char* value : {"nan", "inf", "-1", "1e9"}) {
    expect_failure(run_norma({"generate", "run", "--top-p", value}), 2, {"--top-p", "must be a number from"});
  }
  expect_failure(run_norma({"generate", "run", "--temperature", "nan"}), 2, {"--temperature", "must be a number from"});
  const ProgramResult result = run_norma({"generate", "run", "--top-k", "-1"});
  expect_failure(result, 2, {"--top-k"});
  EXPECT_LT(result.err.size(), 200u) << result.err;
}

TEST(ProgramUsage, HelpThatCannotBeWrittenIsAnError) {
  for (const char* option : {"--help", "--version"}) {
    const std::string command = cat(NORMA_BINARY_DIR, "/norma ", option, " > /dev/full 2> /dev/null");
    EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 8) << option;
  }
}

TEST(ProgramUsage, BaselineIsFoundInTheHelp) {
  EXPECT_NE(run_norma({"report", "--help"}).out.find("norma baseline"), std::string::npos);
  EXPECT_NE(run_norma({"baseline", "--help"}).out.find("norma report"), std::string::npos);
}

TEST(ProgramSignals, AClosedTerminalSavesLikeATermination) {
  const Workplace work;
  Program program(work.train_arguments("run", {"train.max_duration=1000000"}));
  ASSERT_TRUE(program.wait_for("step 5/"));
  program.send(SIGHUP);
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 75) << result.err;
  EXPECT_TRUE(fs::exists(work.path("run") + "/latest"));
}

TEST(ProgramRuntime, MoreThreadsThanTheMachineBearsAreNotStarted) {
  const Workplace work;
  const ProgramResult result = work.train("run", {"run.threads=4096", "train.max_duration=2"});
  expect_failure(result, 0, {"4096 threads", "using"});
  EXPECT_LT(read_json(work.path("run") + "/env.json", 1 << 20)["threads"].get<int>(), 4096);
}

// Without jemalloc the memory of an evaluation grew by gigabytes: src/app/main.cpp says why.
TEST(ProgramRuntime, FreedMemoryIsKeptByJemalloc) {
  Program version({"--version"}, {{"MALLOC_CONF", "confirm_conf:true"}});
  expect_failure(version.wait(), 0, {"<jemalloc>: -- Set conf value: dirty_decay_ms:-1"});
}

TEST(ProgramPlan, WarnsOfAWarmUpThatIsLongerThanTheRun) {
  const Workplace work;
  const auto plan = [&](const char* duration, const char* warmup) {
    const ProgramResult result = run_norma({"plan", work.path("tiny.yaml"), duration, warmup});
    EXPECT_EQ(result.exit_code, 0);
    return result.err.find("never reaches its peak") != std::string::npos;
  };
  EXPECT_TRUE(plan("train.max_duration=10", "schedule.warmup=11"));
  EXPECT_FALSE(plan("train.max_duration=10", "schedule.warmup=10"));
  EXPECT_TRUE(plan("train.max_duration=640T", "schedule.warmup=11"));  // 64 tokens a step
  EXPECT_FALSE(plan("train.max_duration=1ep", "schedule.warmup=1000"));
  const ProgramResult trained = work.train("run", {"train.max_duration=2", "schedule.warmup=3"});
  expect_failure(trained, 0, {"never reaches its peak"});
}

TEST(ProgramInspect, SaysWhenThereIsNothingToVerifyAgainst) {
  const Workplace work;
  const ProgramResult result = run_norma({"inspect", work.path("train.npy"), "--dtype", "uint16", "--verify"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("NOT verified"), std::string::npos) << result.out;
}

TEST(ProgramInspect, ShowsWhatAHuggingFaceFolderIsInOurTerms) {
  const std::string folders = std::string(NORMA_SOURCE_DIR) + "/tests/fixtures/hf/";
  const ProgramResult result = run_norma({"inspect", folders + "deepseek_v3_untied"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("model_type deepseek_v3"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("kv_latent"), std::string::npos) << result.out;
  const Workplace work;
  std::ofstream(work.path("config.json")) << R"({"model_type": "gpt2"})";
  expect_failure(run_norma({"inspect", fs::path(work.path("config.json")).parent_path()}), 3, {"model.safetensors"});
}

// Whole tensors in one file, which is either complete or not there.
TEST(ProgramExport, WritesTheWeightsAsOneFile) {
  const Workplace work;
  ASSERT_EQ(work.train("run").exit_code, 0);
  const std::string out = work.path("out.safetensors");
  EXPECT_EQ(run_norma({"export", work.path("run"), "--out", out}).exit_code, 0);
  const SafetensorsFile exported(out), saved(work.path("run") + "/step-12/model.safetensors");
  ASSERT_EQ(exported.header().tensors.size(), saved.header().tensors.size());
  for (const TensorInfo& tensor : saved.header().tensors) {
    ASSERT_NE(exported.find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(exported.find(tensor.name)->shape, tensor.shape);
    const auto a = exported.bytes(tensor.name), b = saved.bytes(tensor.name);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << tensor.name;
  }
  expect_failure(run_norma({"export", work.path("run"), "--out", work.path("no/such/x")}), 2,
                 {"no/such/x", "must lie in a folder that exists"});
  expect_failure(run_norma({"export", work.path("run"), "--out", work.path("run")}), 2, {"is a folder"});
  expect_failure(run_norma({"export", work.path("run"), "--out", work.path("run/step-12/model.safetensors")}), 2,
                 {"lies in a checkpoint"});
  expect_failure(run_norma({"export", work.path("nothing"), "--out", out}), 4, {"nothing"});
  EXPECT_EQ(run_norma({"export", work.path("run"), "--out", out}).exit_code, 0);  // again: replaces it
}

// Weights that are exported with OLMo's names and imported again are the same.
TEST(ProgramExport, WritesOlmosNamesAndReadsThemAgain) {
  const Workplace work;
  ASSERT_EQ(work.train("run", {"norm.preset=hybrid"}).exit_code, 0);
  const std::string out = work.path("olmo.safetensors");
  EXPECT_EQ(run_norma({"export", work.path("run"), "--to", "olmo", "--plain-keys", "--out", out}).exit_code, 0);
  EXPECT_NE(SafetensorsFile(out).find("transformer.blocks.1.att_proj.weight"), nullptr);
  const ProgramResult imported =
      run_norma({"import", out, "--config", work.path("run/config.resolved.yaml"), "--out", work.path("again")});
  EXPECT_EQ(imported.exit_code, 0) << imported.err;
  const SafetensorsFile before(work.path("run") + "/step-12/model.safetensors"),
      after(work.path("again") + "/step-0/model.safetensors");
  for (const TensorInfo& tensor : before.header().tensors) {
    ASSERT_NE(after.find(tensor.name), nullptr) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(before.bytes(tensor.name), after.bytes(tensor.name))) << tensor.name;
  }
  ASSERT_EQ(work.train("sandwich", {"norm.preset=sandwich"}).exit_code, 0);
  expect_failure(run_norma({"export", work.path("sandwich"), "--to", "olmo", "--out", out}), 2, {"attention"});
  expect_failure(run_norma({"export", work.path("run"), "--to", "olmp", "--out", out}), 2, {"did you mean 'olmo'"});
  expect_failure(run_norma({"export", work.path("run"), "--plain-keys", "--out", out}), 2, {"is for --to olmo"});
}

TEST(ProgramPlan, ListsEveryParameterAndWhatBecomesOfIt) {
  const Workplace work;
  const ProgramResult result =
      run_norma({"plan", work.path("tiny.yaml"), "--parameters", "train.freeze=['blocks.0.*', embedding.weight]"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("blocks.1.attention.qkv.weight"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("frozen"), std::string::npos) << result.out;
  expect_failure(run_norma({"plan", work.path("tiny.yaml"), "train.freeze=[blocks.0.mlp.up_gat.weight]"}), 2,
                 {"train.freeze[0]", "blocks.0.mlp.up_gate.weight"});
}

TEST(ProgramInspect, AFolderThatCannotBeReadIsACheckpointError) {
  const Workplace work;
  fs::create_directory(work.path("run"));
  fs::create_symlink("manifest.json", work.path("run/manifest.json"));  // a link to itself, which even root cannot read
  for (const char* command : {"inspect", "generate"}) {
    expect_failure(run_norma({command, work.path("run")}), 4, {"cannot look into"});
  }
}

// A length in minutes is measured once and kept; counts and samples go where the report finds them.
TEST(ProgramReport, ARunFolderHoldsAllThatTheReportShows) {
  const TextProject project;
  const WorkingFolder inside(project.path(""));
  const auto train = [](const std::string& more) {
    return run_norma({"train", "tiny.yaml", "data.paths=[tokens/train-*.npy]", "run.folder=timed", "data.dtype=auto",
                      "eval.sets={validation: [tokens/train-*.npy]}", "model.vocab_size=280",
                      "model.embedding_rows=288", "train.max_duration=0.002min", "schedule.warmup=0", more});
  };
  EXPECT_EQ(train("train.stop_at=1").exit_code, 75);
  const Json length = read_json("timed/length.json", 1 << 20);
  EXPECT_EQ(length.at("asked"), "0.002min");
  ASSERT_EQ(train("eval.every=4").exit_code, 0);
  EXPECT_EQ(read_json("timed/length.json", 1 << 20), length);
  const Json summary = read_json("timed/summary.json", 1 << 20);
  EXPECT_EQ(summary.at("max_steps"), length.at("steps"));
  EXPECT_EQ(summary.at("step"), length.at("steps"));
  ASSERT_EQ(run_norma({"baseline", "timed"}).exit_code, 0);
  ASSERT_EQ(TextProject::generate("timed", {"--keep"}).exit_code, 0);
  const std::string report = run_norma({"report", "timed"}).out;
  for (const char* text : {"| validation |", "## Validation over time\n", "| bigram counts |", "## Sample: "}) {
    EXPECT_NE(report.find(text), std::string::npos) << text << " is missing in:\n" << report;
  }
  expect_failure(run_norma({"baseline", "tokens/train-00000.npy"}), 2, {"--validation", "--vocab-size"});
  expect_failure(run_norma({"baseline", "timed", "--vocab-size", "9"}), 2, {"--vocab-size means nothing beside"});
}

}  // namespace
}  // namespace norma
