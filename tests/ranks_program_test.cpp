// The program on several processes: the same run whatever their number, and what happens when one of them is stopped,
// killed, hangs or fails.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/text.h"

#include "support/fixtures.h"
#include "support/program.h"
#include "support/ranks.h"

namespace norma {
namespace {

using testing::Program;
using testing::ProgramResult;

constexpr const char* kConfig = R"(
run: {seed: 7, threads: 1}
model: {d_model: 32, num_layers: 2, num_heads: 4, num_kv_heads: 2, mlp_dim: 48, vocab_size: 61, embedding_rows: 67,
        sequence_length: 16}
data: {dtype: uint16}
train: {max_duration: 12, global_batch_size: 12, micro_batch_size: 2}
optim: {lr: 1e-3}
schedule: {warmup: 4}
checkpoint: {every: 4}
eval: {every: 6, max_instances: 20}
parallel: {timeouts: {start: 60, training: 60, grace: 2}}
metrics: {tensorboard: false, console_every: 1}
)";

class Workplace {
 public:
  Workplace() {
    std::ofstream(folder_.path() / "tiny.yaml") << kConfig;
    testing::write_tokens(folder_.path() / "train.npy", 8000, 61);
    testing::write_tokens(folder_.path() / "valid.npy", 700, 61);
  }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::vector<std::string> arguments(const std::string& run, const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"train", path("tiny.yaml"), "data.paths=[" + path("train.npy") + "]",
                                    "eval.sets.v=[" + path("valid.npy") + "]", "run.folder=" + path(run)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

 private:
  testing::TemporaryFolder folder_;
};

// The ranks of one job.
class Job {
 public:
  Job(const Workplace& work, int world, const std::string& run, const std::vector<std::string>& more = {},
      const std::vector<std::string>& last_rank_more = {}) {
    const int port = testing::free_port();
    for (int rank = 0; rank < world; ++rank) {
      std::vector<std::string> arguments = work.arguments(run, more);
      if (rank == world - 1) arguments.insert(arguments.end(), last_rank_more.begin(), last_rank_more.end());
      ranks_.push_back(std::make_unique<Program>(arguments, testing::rank_environment(rank, world, port)));
    }
  }
  Program& rank(std::size_t r) { return *ranks_[r]; }
  std::vector<ProgramResult> wait() {
    std::vector<ProgramResult> results;
    for (const auto& rank : ranks_) results.push_back(rank->wait());
    return results;
  }

 private:
  std::vector<std::unique_ptr<Program>> ranks_;
};

void expect_exit(const std::vector<ProgramResult>& results, int code) {
  for (std::size_t r = 0; r < results.size(); ++r) {
    EXPECT_EQ(results[r].exit_code, code) << "rank " << r << ":\n" << results[r].err;
  }
}

// step -> training loss; the sample ids of a step decide it, and tokens count them.
std::map<std::int64_t, double> losses_of(const std::string& run) {
  std::map<std::int64_t, double> losses;
  for (const std::string& line : split(read_file(run + "/metrics.jsonl", 1 << 24), '\n')) {
    if (line.empty()) continue;
    const Json json = parse_json(line, "metrics");
    if (!json.contains("train/CrossEntropyLoss")) continue;
    const auto step = json.at("step").get<std::int64_t>();
    EXPECT_EQ(losses.count(step), 0U) << "step " << step << " twice";
    EXPECT_EQ(json.at("throughput/total_tokens").get<double>(), static_cast<double>(step * 12 * 16));
    losses[step] = json.at("train/CrossEntropyLoss").get<double>();
  }
  return losses;
}

void expect_near_runs(const std::string& a, const std::string& b, double tolerance) {
  const auto left = losses_of(a), right = losses_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [step, loss] : left) EXPECT_NEAR(right.at(step), loss, tolerance * loss) << "step " << step;
}

// Every byte of a checkpoint's tensor files.
std::map<std::string, std::string> tensors_of(const std::string& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    if (entry.path().extension() == ".safetensors") {
      files[entry.path().filename().string()] = read_file(entry.path(), 1 << 24);
    }
  }
  return files;
}

TEST(Ranks, AnyNumberGoesOnFromWhatAnyNumberSaved) {
  const Workplace work;
  expect_exit(Job(work, 1, "straight").wait(), 0);
  expect_exit(Job(work, 4, "saved", {"train.stop_at=6", "parallel.strategy=full_shard"}).wait(), 75);
  const std::vector<std::pair<int, std::string>> continuations = {
      {1, "single"}, {2, "ddp"}, {3, "shard_grad_op"}, {4, "hybrid"}};
  for (const auto& [world, strategy] : continuations) {
    const std::string run = "on-" + strategy;
    fs::copy(work.path("saved"), work.path(run), fs::copy_options::recursive);
    std::vector<std::string> more = {"parallel.strategy=" + strategy};
    if (strategy == "hybrid") more.emplace_back("parallel.replicas=2");
    expect_exit(Job(work, world, run, more).wait(), 0);
    expect_near_runs(work.path("straight"), work.path(run), 1e-6);
  }
}

TEST(Ranks, ASaveInTheBackgroundEqualsOneThatIsWaitedFor) {
  const Workplace work;
  expect_exit(Job(work, 2, "waited", {"checkpoint.background=false"}).wait(), 0);
  expect_exit(Job(work, 2, "background", {"checkpoint.background=true"}).wait(), 0);
  for (const char* step : {"/step-4", "/step-8", "/step-12"}) {
    EXPECT_EQ(tensors_of(work.path("waited") + step), tensors_of(work.path("background") + step)) << step;
  }
}

TEST(Ranks, ASignalToOneStopsAllAtTheSameStep) {
  const Workplace work;
  Job job(work, 3, "run", {"train.max_duration=100000"});
  ASSERT_TRUE(job.rank(0).wait_for("step 3/", 60));
  job.rank(2).send(SIGTERM);
  expect_exit(job.wait(), 75);
  const Json summary = read_json(work.path("run") + "/summary.json", 1 << 20);
  const std::string folder = cat(work.path("run"), "/step-", summary.at("step").get<std::int64_t>());
  EXPECT_TRUE(fs::exists(folder + "/manifest.json"));
  EXPECT_EQ(testing::run_norma({"inspect", folder, "--verify"}).exit_code, 0);
}

TEST(Ranks, AKilledOneEndsTheOthersAndTheNextRunLosesNothing) {
  const Workplace work;
  expect_exit(Job(work, 3, "straight", {"train.max_duration=40"}).wait(), 0);
  Job job(work, 3, "run", {"train.max_duration=40", "checkpoint.every=3"});
  ASSERT_TRUE(job.rank(0).wait_for("step 8/", 60));
  job.rank(1).send(SIGKILL);
  const auto killed = std::chrono::steady_clock::now();
  const std::vector<ProgramResult> results = job.wait();
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(20));
  EXPECT_EQ(results[0].exit_code, 6) << results[0].err;
  EXPECT_EQ(results[2].exit_code, 6) << results[2].err;
  EXPECT_NE((results[0].err + results[2].err).find("rank 1 does not answer: it is lost"), std::string::npos)
      << results[0].err << results[2].err;
  expect_exit(Job(work, 3, "run", {"train.max_duration=40", "checkpoint.every=3"}).wait(), 0);
  EXPECT_EQ(tensors_of(work.path("straight") + "/step-40"), tensors_of(work.path("run") + "/step-40"));
  EXPECT_EQ(losses_of(work.path("straight")), losses_of(work.path("run")));
}

int from_environment(const char* name, int otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? std::atoi(value) : otherwise;
}

// Random ranks die at random moments, also while a checkpoint is written: the run always goes on from the newest
// complete one and ends as if nothing had happened. scripts/campaign.sh kills asks for a hundred.
TEST(Ranks, RandomKillsLoseNothing) {
  const int kills = from_environment("NORMA_KILLS", 3), world = 3;
  std::mt19937 random(static_cast<unsigned>(from_environment("NORMA_SEED", 1)));
  const auto below = [&](int bound) { return static_cast<int>(random() % static_cast<unsigned>(bound)); };
  const Workplace work;
  const std::vector<std::string> more = {cat("train.max_duration=", 8 * kills + 10), "eval.every=0",
                                         "checkpoint.every=2"};
  expect_exit(Job(work, 1, "straight", more).wait(), 0);
  int reached = 0;
  for (int kill = 0; kill < kills; ++kill) {
    Job job(work, world, "run", more);
    reached += 1 + below(8);
    ASSERT_TRUE(job.rank(0).wait_for(cat("step ", reached, "/"), 120)) << "kill " << kill;
    std::this_thread::sleep_for(std::chrono::milliseconds(below(60)));
    const int victim = below(world);
    job.rank(static_cast<std::size_t>(victim)).send(SIGKILL);
    const std::vector<ProgramResult> results = job.wait();
    for (int r = 0; r < world; ++r) {
      const ProgramResult& result = results[static_cast<std::size_t>(r)];
      EXPECT_EQ(result.exit_code, r == victim ? 128 + SIGKILL : 6) << "kill " << kill << " rank " << r << result.err;
    }
  }
  expect_exit(Job(work, world, "run", more).wait(), 0);
  const std::string last = cat("/step-", 8 * kills + 10);
  expect_near_runs(work.path("straight"), work.path("run"), 1e-6);
  expect_exit(Job(work, world, "whole", more).wait(), 0);
  EXPECT_EQ(tensors_of(work.path("whole") + last), tensors_of(work.path("run") + last));
  EXPECT_EQ(losses_of(work.path("whole")), losses_of(work.path("run")));
  std::printf("%d kills survived\n", kills);
}

struct TraceSpan {
  double begin, end;
  bool overlaps(const TraceSpan& other) const { return begin < other.end && other.begin < end; }
};

// Complete events of a Chrome trace by name.
std::map<std::string, std::vector<TraceSpan>> spans_of(const std::string& file) {
  std::map<std::string, std::vector<TraceSpan>> spans;
  const Json trace = read_json(file, 1 << 28);
  for (const Json& event : trace.at("traceEvents")) {
    if (event.value("ph", "") != "X" || !event.at("name").is_string()) continue;
    const double begin = event.at("ts").get<double>();
    spans[event.at("name").get<std::string>()].push_back({begin, begin + event.at("dur").get<double>()});
  }
  return spans;
}

// Gloo makes a reduce-scatter out of an all-reduce, so that is its name here.
TEST(Ranks, ATraceShowsCollectivesBesideCompute) {
  const Workplace work;
  const std::vector<std::string> more = {"metrics.trace_steps=4", "metrics.trace_from=3",
                                         "parallel.strategy=full_shard", "model.d_model=128", "model.mlp_dim=512"};
  expect_exit(Job(work, 2, "run", more).wait(), 0);
  const auto spans = spans_of(work.path("run") + "/traces/rank0.json");
  const std::vector<TraceSpan>& products = spans.at("aten::mm");
  for (const char* kind : {"gloo:all_gather", "gloo:all_reduce"}) {
    const auto beside = std::count_if(spans.at(kind).begin(), spans.at(kind).end(), [&](const TraceSpan& span) {
      return std::any_of(products.begin(), products.end(), [&](const TraceSpan& one) { return one.overlaps(span); });
    });
    EXPECT_GT(beside, 0) << kind << " of " << spans.at(kind).size();
  }
  for (const char* unit : {"forward blocks.1", "backward blocks.1", "forward head"}) EXPECT_EQ(spans.count(unit), 1U);
}

TEST(Ranks, AHungOneIsNamed) {
  const Workplace work;
  Job job(work, 3, "run", {"train.max_duration=100000", "parallel.timeouts.training=3"});
  ASSERT_TRUE(job.rank(0).wait_for("step 3/", 60));
  job.rank(1).send(SIGSTOP);
  const ProgramResult first = job.rank(0).wait(), third = job.rank(2).wait();
  EXPECT_EQ(first.exit_code, 6) << first.err;
  EXPECT_EQ(third.exit_code, 6) << third.err;
  EXPECT_NE((first.err + third.err).find("rank 1 does not answer"), std::string::npos) << first.err << third.err;
  EXPECT_NE((first.err + third.err).find("at step "), std::string::npos) << first.err << third.err;
  job.rank(1).send(SIGCONT);
  EXPECT_EQ(job.rank(1).wait().exit_code, 6);
}

TEST(Ranks, OneThatLacksAFileTellsTheOthers) {
  const Workplace work;
  const std::vector<ProgramResult> results = Job(work, 3, "run", {}, {"data.paths=[/nowhere/x.npy]"}).wait();
  EXPECT_EQ(results[2].exit_code, 3) << results[2].err;
  EXPECT_EQ(results[0].exit_code, 6) << results[0].err;
  EXPECT_EQ(results[1].exit_code, 6) << results[1].err;
  EXPECT_NE(results[0].err.find("/nowhere/x.npy"), std::string::npos) << results[0].err;
  EXPECT_NE(results[0].err.find("rank 2"), std::string::npos) << results[0].err;
}

TEST(Ranks, DivergenceStopsAllBeforeTheUpdate) {
  const Workplace work;
  const std::vector<ProgramResult> results =
      Job(work, 2, "run", {"optim.lr=1e30", "schedule.warmup=0", "eval.every=0"}).wait();
  expect_exit(results, 5);
  EXPECT_NE(results[0].err.find("not finite"), std::string::npos) << results[0].err;
  EXPECT_FALSE(fs::exists(work.path("run") + "/step-4"));
}

TEST(Ranks, ReplicasAreCompared) {
  const Workplace work;
  expect_exit(
      Job(work, 4, "run", {"parallel.strategy=hybrid", "parallel.replicas=2", "parallel.check_replicas_every=3"})
          .wait(),
      0);
}

// The launcher itself: workers that fail are started again and go on from the last good checkpoint.
TEST(Torchrun, RestartsAfterAKillAndLosesNothing) {
  const std::string torchrun = std::string(NORMA_SOURCE_DIR) + "/.venv/bin/torchrun";
  if (!fs::exists(torchrun)) GTEST_SKIP() << torchrun << " is not installed";
  const Workplace work;
  expect_exit(Job(work, 2, "straight", {"train.max_duration=30"}).wait(), 0);
  std::vector<std::string> arguments = {"--no-python", "--nproc-per-node=2", "--max-restarts=2",
                                        "--monitor-interval=0.2", std::string(NORMA_BINARY_DIR) + "/norma"};
  for (const std::string& one : work.arguments("run", {"train.max_duration=30", "checkpoint.every=3"})) {
    arguments.push_back(one);
  }
  Program program(torchrun, arguments, {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(program.wait_for("step 8/", 90));
  // The second rank's process is found by its log file's name in /proc.
  const ProgramResult killed =
      Program("/usr/bin/pkill", {"-KILL", "-n", "-f", "norma train " + work.path("tiny.yaml")}, {}).wait();
  EXPECT_EQ(killed.exit_code, 0) << killed.err;
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(tensors_of(work.path("straight") + "/step-30"), tensors_of(work.path("run") + "/step-30"));
}

}  // namespace
}  // namespace norma
