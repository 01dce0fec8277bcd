// The program end to end: training, resuming, signals, errors and their exit codes.
#include "support/program.h"

#include <csignal>
#include <fstream>
#include <map>

#include <gtest/gtest.h>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/text.h"
#include "norma/checkpoint/commit.h"

#include "support/fixtures.h"
#include "support/small_tokenizer.h"
#include "support/workplace.h"

namespace norma {
namespace {

using testing::expect_failure;
using testing::Program;
using testing::ProgramResult;
using testing::run_norma;
using testing::Workplace;

bool is_timing(const std::string& metric) {
  return metric.find("per_second") != std::string::npos;
}

// The lines of metrics.jsonl without the metrics that depend on time.
std::vector<std::string> metrics_of(const std::string& run) {
  std::vector<std::string> lines;
  for (const std::string& line : split(read_file(run + "/metrics.jsonl", 1 << 24), '\n')) {
    if (line.empty()) continue;
    const Json all = parse_json(line, "metrics");
    Json kept = Json::object();
    for (const auto& [name, value] : all.items()) {
      if (!is_timing(name)) kept[name] = value;
    }
    lines.push_back(kept.dump());
  }
  return lines;
}

void expect_equal_runs(const std::string& a, const std::string& b, int step) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string name = cat("/step-", step, "/", file);
    EXPECT_EQ(read_file(a + name, 1 << 24), read_file(b + name, 1 << 24)) << name;
  }
  EXPECT_EQ(metrics_of(a), metrics_of(b));
}

Json summary_of(const std::string& run) {
  return read_json(run + "/summary.json", 1 << 20);
}

// The speed of a run counts every step but the first of each process: `steps` of them.
void expect_measured_steps(const std::string& run, std::int64_t steps) {
  const Json summary = summary_of(run);
  EXPECT_EQ(summary.at("training_tokens").get<std::int64_t>(), steps * 4 * 16);
  const auto seconds = summary.at("training_seconds").get<double>();
  EXPECT_DOUBLE_EQ(summary.at("tokens_per_second").get<double>(), static_cast<double>(steps * 4 * 16) / seconds);
}

// Makes a checkpoint like those of earlier versions, which did not measure the speed.
void forget_speed(const fs::path& checkpoint) {
  Manifest manifest = open_checkpoint(checkpoint);
  ASSERT_EQ(manifest.trainer.erase("training_seconds") + manifest.trainer.erase("training_tokens"), 2U);
  write_file_atomic(checkpoint / kManifestName, print_manifest(manifest));
}

TEST(Program, LearnsAndLeavesARunFolder) {
  const Workplace work;
  const ProgramResult result = work.train("run", {"train.max_duration=60"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* name : {"config.yaml", "config.resolved.yaml", "plan.txt", "env.json", "logs/rank0.log",
                           "metrics.jsonl", "step-60/manifest.json", "latest", "summary.json"}) {
    EXPECT_TRUE(fs::exists(work.path("run") + "/" + name)) << name;
  }
  const Json summary = summary_of(work.path("run"));
  EXPECT_EQ(summary["outcome"], "finished");
  EXPECT_EQ(summary["tokens"], 60 * 4 * 16);
  EXPECT_LT(summary["final_loss"].get<double>(), 3.7);  // ln 61 = 4.11
  EXPECT_LT(summary["validation"]["v"].get<double>(), 3.9);
  const ProgramResult again = work.train("run", {"train.max_duration=60"});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_NE(again.err.find("resuming at step 60"), std::string::npos) << again.err;
}

TEST(Program, SameConfigTwiceGivesTheSameRun) {
  const Workplace work;
  ASSERT_EQ(work.train("a").exit_code, 0);
  ASSERT_EQ(work.train("b").exit_code, 0);
  expect_equal_runs(work.path("a"), work.path("b"), 12);
}

TEST(Program, ResumingEqualsTrainingStraight) {
  for (const std::string precision : {"precision=fp32", "precision=bf16"}) {
    const Workplace work;
    const bool old_checkpoint = precision == "precision=bf16";
    ASSERT_EQ(work.train("straight", {precision}).exit_code, 0);
    for (const char* stop : {"3", "8"}) {
      const ProgramResult part = work.train("parts", {precision, cat("train.stop_at=", stop)});
      EXPECT_EQ(part.exit_code, 75) << part.err;
    }
    if (old_checkpoint) forget_speed(work.path("parts") + "/step-8");
    ASSERT_EQ(work.train("parts", {precision}).exit_code, 0);
    expect_equal_runs(work.path("straight"), work.path("parts"), 12);
    expect_measured_steps(work.path("straight"), 11);
    expect_measured_steps(work.path("parts"), old_checkpoint ? 3 : 2 + 4 + 3);
  }
}

TEST(Program, MicroBatchesOnlyChangeRounding) {
  const Workplace work;
  ASSERT_EQ(work.train("a", {"precision=fp64", "train.micro_batch_size=4"}).exit_code, 0);
  ASSERT_EQ(work.train("b", {"precision=fp64", "train.micro_batch_size=1"}).exit_code, 0);
  const auto last_loss = [&](const char* run) { return summary_of(work.path(run))["final_loss"].get<double>(); };
  EXPECT_NEAR(last_loss("a") / last_loss("b"), 1.0, 1e-12);
}

TEST(Program, FirstSignalSavesSecondLeaves) {
  const Workplace work;
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string run = cat("run", signal);
    Program program(work.train_arguments(run, {"train.max_duration=1000000"}));
    ASSERT_TRUE(program.wait_for("step 5/"));
    program.send(signal);
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.exit_code, 75) << result.err;
    const ProgramResult inspected = run_norma({"inspect", work.path(run), "--verify"});
    EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
  }
}

TEST(Program, ASecondSignalLeavesAtOnce) {
  const Workplace work(testing::kTinyConfig, 4'000'000);
  // The first step has 200,000 micro-batches: it does not end before the second signal.
  Program program(work.train_arguments("run", {"train.global_batch_size=200000", "train.micro_batch_size=1"}));
  ASSERT_TRUE(program.wait_for("a fresh start"));
  program.send(SIGINT);
  ASSERT_TRUE(program.wait_for("once more to leave at once"));
  program.send(SIGINT);
  EXPECT_EQ(program.wait().exit_code, 130);
  EXPECT_FALSE(fs::exists(work.path("run") + "/latest"));
}

TEST(Program, TwoProcessesDoNotShareARunFolder) {
  const Workplace work;
  Program first(work.train_arguments("run", {"train.max_duration=1000000"}));
  ASSERT_TRUE(first.wait_for("step 1/"));
  expect_failure(work.train("run"), 2, {"another process is training"});
  first.send(SIGTERM);
  EXPECT_EQ(first.wait().exit_code, 75);
}

TEST(Program, DivergenceStopsBeforeTheUpdate) {
  const Workplace work;
  const ProgramResult result = work.train("run", {"optim.lr=1e30", "schedule.warmup=0", "train.max_grad_norm=0"});
  expect_failure(result, 5, {"step 2", "No weight was changed", "not finite"});
  EXPECT_FALSE(fs::exists(work.path("run") + "/latest"));
}

TEST(Program, DamagedCheckpointsAreNamedAndPassedOver) {
  const Workplace work;
  ASSERT_EQ(work.train("run", {"checkpoint.every=6"}).exit_code, 0);
  std::fstream file(work.path("run") + "/step-12/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-5, std::ios::end);
  file.put('\x7f');
  file.close();
  const ProgramResult result = work.train("run", {"checkpoint.every=6"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("skipping the checkpoint"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("resuming at step 6"), std::string::npos) << result.err;
  expect_failure(work.train("other", {"checkpoint.resume=" + work.path("nowhere")}), 4, {"nowhere"});
  expect_failure(work.train("run", {"checkpoint.resume=none"}), 4, {"fresh start"});
  expect_failure(work.train("other", {"checkpoint.resume=" + work.path("run") + "/step-6", "norm.preset=pre"}), 4,
                 {"norm.preset: hybrid_star -> pre"});
}

// The same tensors with another placement or another rotation make another model.
TEST(Program, ACheckpointOfAnotherModelIsRefusedUnlessAllowed) {
  const Workplace work;
  ASSERT_EQ(work.train("run", {"norm.preset=pre", "train.stop_at=6"}).exit_code, 75);
  expect_failure(work.train("run", {"norm.preset=lns"}), 4, {"norm.preset: pre -> lns", "checkpoint.resume_allow"});
  expect_failure(work.train("run", {"norm.preset=pre", "model.rope_theta=1e4"}), 4, {"model.rope_theta: 5"});
  expect_failure(work.train("run", {"norm.preset=pre", "train.global_batch_size=8", "model.sequence_length=8"}), 4,
                 {"train.global_batch_size=4"});
  EXPECT_EQ(work.train("run", {"norm.preset=pre_pre", "train.stop_at=7"}).exit_code, 75);  // another name of pre
  const ProgramResult allowed = work.train("run", {"norm.preset=pre", "optim.lr=2e-2", "model.rope_theta=1e4",
                                                   "checkpoint.resume_allow=[model.rope_theta]"});
  EXPECT_EQ(allowed.exit_code, 0) << allowed.err;
  EXPECT_NE(allowed.err.find("optim.lr: 0.01 -> 0.02"), std::string::npos) << allowed.err;
}

TEST(Program, BadDataUnderWayKeepsWhatWasTrained) {
  const Workplace work;
  {
    std::fstream file(work.path("train.npy"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2 * 3000);
    const std::uint16_t beyond = 62;
    file.write(reinterpret_cast<const char*>(&beyond), sizeof beyond);
  }
  const ProgramResult result = work.train("run", {"train.max_duration=60", "eval.every=0"});
  expect_failure(result, 3, {"62", "saved step"});
  EXPECT_TRUE(fs::exists(work.path("run") + "/latest"));
}

TEST(Program, AFinishedRunIsLeftAsItIs) {
  const Workplace work;
  ASSERT_EQ(work.train("run").exit_code, 0);
  const std::string summary = read_file(work.path("run") + "/summary.json", 1 << 20);
  const std::string resolved = read_file(work.path("run") + "/config.resolved.yaml", 1 << 20);
  ASSERT_EQ(work.train("run").exit_code, 0);
  EXPECT_EQ(read_file(work.path("run") + "/summary.json", 1 << 20), summary);
  expect_failure(work.train("run", {"norm.preset=pre"}), 4, {"norm.preset: hybrid_star -> pre"});
  expect_failure(work.train("run", {"train.global_batch_size=8"}), 4, {"train.global_batch_size=4"});
  EXPECT_EQ(read_file(work.path("run") + "/config.resolved.yaml", 1 << 20), resolved);
}

TEST(Program, ANamedCheckpointStartsARunOnceAndIsThenLeftBehind) {
  const Workplace work;
  ASSERT_EQ(work.train("source", {"train.stop_at=6"}).exit_code, 75);
  const std::string resume = "checkpoint.resume=" + work.path("source") + "/step-6";
  const ProgramResult first = work.train("fork", {resume, "train.stop_at=9"});
  EXPECT_EQ(first.exit_code, 75) << first.err;
  const ProgramResult second = work.train("fork", {resume});
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_NE(second.err.find("resuming at step 9"), std::string::npos) << second.err;
}

TEST(Program, ARunWhoseCheckpointsAreAllBrokenDoesNotStartAnew) {
  const Workplace work;
  ASSERT_EQ(work.train("run").exit_code, 0);
  std::ofstream(work.path("run") + "/step-12/model.safetensors", std::ios::app) << "junk";
  expect_failure(work.train("run"), 4, {"every checkpoint", "broken"});
  EXPECT_EQ(metrics_of(work.path("run")).size(), 15u);  // 12 steps and 3 validations: nothing was cut
}

TEST(Program, WhatTheLengthOrTheDataContradictIsSaid) {
  const Workplace work;
  expect_failure(work.train("run", {"schedule.kind=wsd", "schedule.decay=10"}), 2,
                 {"schedule.decay", "warmup + decay"});
  expect_failure(work.train("run", {"model.vocab_size=60"}), 3, {"train.npy", "60"});  // a padding row is no token
  expect_failure(run_norma({"inspect", work.path("nowhere")}), 3, {"does not exist"});
  expect_failure(run_norma({"inspect", std::string(300, 'x')}), 3, {});
}

// From text to tokens, to a model and back to text; the tokenizer is found beside the tokens.
TEST(Program, PreparesTrainsAndGenerates) {
  const Workplace work;
  std::ofstream(work.path("tokenizer.json")) << testing::small_tokenizer_json().dump();
  fs::create_directory(work.path("text"));
  for (int i = 0; i < 20; ++i) {
    std::ofstream(cat(work.path("text"), "/", i, ".txt")) << "a new low lower newer " << i << " low lower new\n";
  }
  const ProgramResult prepared = run_norma({"prepare", work.path("text"), "--tokenizer", work.path("tokenizer.json"),
                                            "--out", work.path("tokens"), "--validation-every", "5"});
  ASSERT_EQ(prepared.exit_code, 0) << prepared.err;
  const ProgramResult trained =
      run_norma({"train", work.path("tiny.yaml"), "data.paths=[" + work.path("tokens") + "/train-*.npy]",
                 "eval.sets.v=[" + work.path("tokens") + "/validation-*.npy]", "run.folder=" + work.path("run"),
                 "model.vocab_size=280", "model.embedding_rows=288", "data.dtype=auto"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const std::vector<std::string> generate = {
      "generate", work.path("run"), "--prompt", "a low", "--max-tokens", "8", "--seed", "3", "--ignore-end-of-text"};
  const ProgramResult first = run_norma(generate);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_TRUE(first.out.starts_with("a low"));
  EXPECT_EQ(run_norma(generate).out, first.out);
}

TEST(Program, GeneratesInspectsBenchesAndReports) {
  const Workplace work;
  ASSERT_EQ(work.train("run").exit_code, 0);
  expect_failure(run_norma({"generate", work.path("run")}), 3, {"--tokenizer"});
  const ProgramResult tokens = run_norma({"inspect", work.path("train.npy"), "--dtype", "uint16"});
  EXPECT_NE(tokens.out.find("4,000 tokens"), std::string::npos) << tokens.err;
  const ProgramResult bench = run_norma({"bench", work.path("tiny.yaml"), "--steps", "2", "--warmup", "1"});
  ASSERT_EQ(bench.exit_code, 0) << bench.err;
  EXPECT_GT(parse_json(bench.out, "bench")["tok_s_median"].get<double>(), 0.0);
  const ProgramResult report = run_norma({"report", work.path("run"), "--out", work.path("report.md")});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  EXPECT_NE(read_file(work.path("report.md"), 1 << 20).find("validation: v"), std::string::npos);
  EXPECT_EQ(run_norma({"plan", work.path("tiny.yaml"), "--json"}).exit_code, 0);
  const ProgramResult dry = work.train("dry", {"--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_NE(dry.out.find("inner norms"), std::string::npos);
  EXPECT_FALSE(fs::exists(work.path("dry")));
}

struct WrongConfig {
  const char* yaml;  // a whole file, or "" to use the good one
  std::vector<std::string> overrides;
  int code;
  std::vector<std::string> texts;  // each must stand in the message
};

// One config for each part of the program that judges configs; the tests of these parts have many more.
TEST(Program, WrongConfigsAreNamed) {
  const std::vector<WrongConfig> cases = {
      {"model:\n  d_modl: 32\n", {}, 2, {"wrong.yaml:2", "d_modl", "did you mean 'model.d_model'"}},
      {"model: [1, 2\n", {}, 2, {"wrong.yaml"}},
      {"model: {num_heads: 8, num_kv_heads: 3}\n", {}, 2, {"wrong.yaml:1", "num_kv_heads", "8"}},
      {"norm: {preset: hybird_star}\n", {}, 2, {"wrong.yaml:1", "norm.preset", "did you mean 'hybrid_star'"}},
      {"norm:\n  layers:\n    '99': {mlp: {alpha: 2}}\n", {}, 2, {"wrong.yaml:3", "norm.layers.99", "'5'"}},
      {"norm: {preset: span}\ninit: {scheme: normal}\n", {}, 2, {"init.scheme", "megatron"}},
      {"", {"optim.lrr=1"}, 2, {"optim.lrr=1", "optim.lr"}},
      {"", {"data.paths=[/nowhere/x.npy]"}, 3, {"/nowhere/x.npy", "data.paths"}},
      {"model: {d_modl: 1}\noptim: {lr: -1}\nnorm: {preset: prre}\n",
       {},
       2,
       {"4 problems", "wrong.yaml:1", "wrong.yaml:2", "wrong.yaml:3"}},
  };
  const Workplace work;
  for (const WrongConfig& wrong : cases) {
    std::ofstream(work.path("wrong.yaml")) << (*wrong.yaml ? wrong.yaml : testing::kTinyConfig);
    std::vector<std::string> arguments = {"train", work.path("wrong.yaml")};
    arguments.insert(arguments.end(), wrong.overrides.begin(), wrong.overrides.end());
    const ProgramResult result = run_norma(arguments);
    SCOPED_TRACE(wrong.yaml + join(wrong.overrides, " "));
    expect_failure(result, wrong.code, wrong.texts);
  }
  expect_failure(run_norma({"train", work.path("absent.yaml")}), 2, {"absent.yaml"});
  expect_failure(work.train("run", {"data.dtype=uint32", "model.vocab_size=61"}), 3, {"train.npy"});
}

// The loss curve of 100 steps. It is written anew only on purpose:
// NORMA_WRITE_GOLDEN=1 build/program_test --gtest_filter='*Golden*'
TEST(Program, GoldenLossCurve) {
  const Workplace work;
  ASSERT_EQ(work.train("run", {"train.max_duration=100", "eval.every=0", "optim.lr=3e-3"}).exit_code, 0);
  Json losses = Json::array();
  for (const std::string& line : metrics_of(work.path("run"))) {
    losses.push_back(parse_json(line, "metrics")["train/CrossEntropyLoss"]);
  }
  const fs::path golden = fs::path(NORMA_SOURCE_DIR) / "tests/fixtures/golden/tiny_100_steps.json";
  if (std::getenv("NORMA_WRITE_GOLDEN") != nullptr) write_file_atomic(golden, losses.dump(1) + "\n");
  const Json want = read_json(golden, 1 << 20);
  ASSERT_EQ(losses.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(losses[i].get<double>() / want[i].get<double>(), 1.0, 1e-4) << "step " << i + 1;
  }
}

}  // namespace
}  // namespace norma
