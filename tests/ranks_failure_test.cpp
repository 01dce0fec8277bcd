// The program on several processes, of which one is stopped, is killed, hangs or fails.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <thread>

#include "support/job.h"

namespace norma {
namespace {

using testing::expect_exit;
using testing::expect_near_runs;
using testing::Job;
using testing::losses_of;
using testing::Program;
using testing::ProgramResult;
using testing::tensors_of;

TEST(RankFailures, ASignalToOneStopsAllAtTheSameStep) {
  const testing::JobWorkplace work;
  Job job(work, 3, "run", {"train.max_duration=100000"});
  ASSERT_TRUE(job.rank(0).wait_for("step 3/"));
  job.rank(2).send(SIGTERM);
  expect_exit(job.wait(), 75);
  const Json summary = read_json(work.path("run") + "/summary.json", 1 << 20);
  const std::string folder = cat(work.path("run"), "/step-", summary.at("step").get<std::int64_t>());
  EXPECT_TRUE(fs::exists(folder + "/manifest.json"));
  EXPECT_EQ(testing::run_norma({"inspect", folder, "--verify"}).exit_code, 0);
}

TEST(RankFailures, AKilledRankEndsTheOthersAndTheNextRunLosesNothing) {
  const testing::JobWorkplace work;
  expect_exit(Job(work, 3, "straight", {"train.max_duration=40"}).wait(), 0);
  // The timeout is so long that the test ends only when the others notice the death by themselves.
  Job job(work, 3, "run", {"train.max_duration=40", "checkpoint.every=3", "parallel.timeouts.training=100000"});
  ASSERT_TRUE(job.rank(0).wait_for("step 8/"));
  job.rank(1).send(SIGKILL);
  const std::vector<ProgramResult> results = job.wait();
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
  return value != nullptr ? std::stoi(value) : otherwise;
}

// Random ranks are killed at random moments, some of them while a checkpoint is written. Each time the run goes on from
// the newest complete checkpoint, and it ends as if nothing had happened. scripts/campaign.sh kills does so 100 times.
TEST(RankFailures, RandomKillsLoseNothing) {
  const int kills = from_environment("NORMA_KILLS", 2), world = 3;
  std::mt19937 random(static_cast<unsigned>(from_environment("NORMA_SEED", 1)));
  const auto below = [&](int bound) { return static_cast<int>(random() % static_cast<unsigned>(bound)); };
  const testing::JobWorkplace work;
  const std::vector<std::string> more = {cat("train.max_duration=", 8 * kills + 10), "eval.every=0",
                                         "checkpoint.every=2"};
  expect_exit(Job(work, 1, "straight", more).wait(), 0);
  int reached = 0;
  for (int kill = 0; kill < kills; ++kill) {
    Job job(work, world, "run", more);
    reached += 1 + below(8);
    ASSERT_TRUE(job.rank(0).wait_for(cat("step ", reached, "/"))) << "kill " << kill;
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

TEST(RankFailures, AHungRankIsNamed) {
  const testing::JobWorkplace work;
  Job job(work, 3, "run", {"train.max_duration=100000", "parallel.timeouts.training=3"});
  ASSERT_TRUE(job.rank(0).wait_for("step 3/"));
  job.rank(1).send(SIGSTOP);
  const ProgramResult first = job.rank(0).wait(), third = job.rank(2).wait();
  EXPECT_EQ(first.exit_code, 6) << first.err;
  EXPECT_EQ(third.exit_code, 6) << third.err;
  EXPECT_NE((first.err + third.err).find("rank 1 does not answer"), std::string::npos) << first.err << third.err;
  EXPECT_NE((first.err + third.err).find("at step "), std::string::npos) << first.err << third.err;
  job.rank(1).send(SIGCONT);
  EXPECT_EQ(job.rank(1).wait().exit_code, 6);
}

// Rank 0 keeps the store through which the ranks learn about each other. The others must end without it, too.
TEST(RankFailures, AHungKeeperOfTheStoreEndsTheOthersToo) {
  const testing::JobWorkplace work;
  Job job(work, 3, "run", {"train.max_duration=100000", "parallel.timeouts.training=3"});
  ASSERT_TRUE(job.rank(0).wait_for("step 3/"));
  job.rank(0).send(SIGSTOP);
  for (const std::size_t r : {1U, 2U}) testing::expect_failure(job.rank(r).wait(), 6, {"at step "});
  job.rank(0).send(SIGKILL);
  job.rank(0).wait();
}

TEST(RankFailures, ARankWithAnotherMeshIsRefused) {
  const testing::JobWorkplace work;
  const std::vector<ProgramResult> results = Job(work, 2, "run", {}, {"parallel.strategy=ddp"}).wait();
  for (const ProgramResult& result : results) testing::expect_failure(result, 2, {"1 shards x 2 replicas"});
}

TEST(RankFailures, ARankThatLacksAFileTellsTheOthers) {
  const testing::JobWorkplace work;
  const std::vector<ProgramResult> results = Job(work, 3, "run", {}, {"data.paths=[/nowhere/x.npy]"}).wait();
  EXPECT_EQ(results[2].exit_code, 3) << results[2].err;
  EXPECT_EQ(results[0].exit_code, 6) << results[0].err;
  EXPECT_EQ(results[1].exit_code, 6) << results[1].err;
  EXPECT_NE(results[0].err.find("/nowhere/x.npy"), std::string::npos) << results[0].err;
  EXPECT_NE(results[0].err.find("rank 2"), std::string::npos) << results[0].err;
}

TEST(RankFailures, DivergenceStopsAllBeforeTheUpdate) {
  const testing::JobWorkplace work;
  const std::vector<ProgramResult> results =
      Job(work, 2, "run", {"optim.lr=1e30", "schedule.warmup=0", "eval.every=0"}).wait();
  expect_exit(results, 5);
  EXPECT_NE(results[0].err.find("not finite"), std::string::npos) << results[0].err;
  EXPECT_FALSE(fs::exists(work.path("run") + "/step-4"));
}

// Training on other tokens than the other ranks would give a wrong model and no error.
TEST(RankFailures, ARankThatReadsOtherTokensIsRefused) {
  const testing::JobWorkplace work;
  testing::write_tokens(work.path("train-less.npy"), 7000, 61);
  const std::vector<ProgramResult> results =
      Job(work, 3, "run", {}, {"data.paths=[" + work.path("train-less.npy") + "]"}).wait();
  testing::expect_failure(results[2], 3, {"rank 2", "same data"});
  for (const std::size_t r : {0U, 1U}) testing::expect_failure(results[r], 6, {"rank 2", "same data"});
}

TEST(RankFailures, ARankWithAnotherConfigIsRefused) {
  const testing::JobWorkplace work;
  const std::vector<ProgramResult> results = Job(work, 2, "run", {}, {"optim.lr=2e-3"}).wait();
  testing::expect_failure(results[1], 2, {"optim.lr: 0.001, here 0.002"});
  testing::expect_failure(results[0], 6, {"rank 1", "optim.lr"});
}

// The step before the validation is over, so it is saved; the next run evaluates it again.
TEST(RankFailures, ASignalDuringAValidationStopsAllAtTheStepBefore) {
  const testing::JobWorkplace work;
  testing::write_tokens(work.path("valid.npy"), 8'000'000, 61);
  Job job(work, 3, "run", {"eval.every=2", "eval.max_instances=0", "train.max_duration=6"});
  ASSERT_TRUE(job.rank(0).wait_for("step 2/"));  // said just before the validation begins
  job.rank(1).send(SIGTERM);
  expect_exit(job.wait(), 75);
  const Json summary = read_json(work.path("run") + "/summary.json", 1 << 20);
  EXPECT_EQ(summary.at("step").get<std::int64_t>(), 2);
  EXPECT_EQ(testing::run_norma({"inspect", work.path("run") + "/step-2", "--verify"}).exit_code, 0);
  testing::write_tokens(work.path("valid.npy"), 700, 61);
  expect_exit(Job(work, 2, "run", {"eval.every=2", "train.max_duration=6"}).wait(), 0);
  EXPECT_EQ(losses_of(work.path("run")).size(), 6U);
}

// A limit on the size of its files stands for a full disk on one rank. Saving fails on all ranks, and the checkpoint
// before it stays.
TEST(RankFailures, ARankWithoutDiskSpaceEndsAllAndHarmsNoCheckpoint) {
  const testing::JobWorkplace work;
  expect_exit(Job(work, 3, "run", {"train.stop_at=4"}).wait(), 75);
  Job limited(3, [&](int rank, const testing::Environment& environment) {
    std::vector<std::string> arguments = {rank == 1 ? "--fsize=20000" : "--fsize=unlimited",
                                          std::string(NORMA_BINARY_DIR) + "/norma"};
    for (const std::string& one : work.train_arguments("run")) arguments.push_back(one);
    return std::make_unique<Program>("/usr/bin/prlimit", arguments, environment);
  });
  const std::vector<ProgramResult> results = limited.wait();
  expect_exit(results, 8);
  testing::expect_failure(results[0], 8, {"rank 1 could not save"});
  EXPECT_EQ(testing::run_norma({"inspect", work.path("run"), "--verify"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(work.path("run") + "/step-8"));
  expect_exit(Job(work, 3, "run").wait(), 0);
}

// torchrun starts the ranks again when one of them fails; they go on from the last good checkpoint.
TEST(Torchrun, RestartsAfterAKillAndLosesNothing) {
  const std::string torchrun = std::string(NORMA_SOURCE_DIR) + "/.venv/bin/torchrun";
  if (!fs::exists(torchrun)) GTEST_SKIP() << torchrun << " is not installed";
  const testing::JobWorkplace work;
  expect_exit(Job(work, 2, "straight", {"train.max_duration=30"}).wait(), 0);
  const std::string norma = std::string(NORMA_BINARY_DIR) + "/norma";
  std::vector<std::string> arguments = {
      "--standalone", "--no-python", "--nproc-per-node=2", "--max-restarts=2", "--monitor-interval=0.2", norma};
  for (const std::string& one : work.train_arguments("run", {"train.max_duration=30", "checkpoint.every=3"})) {
    arguments.push_back(one);
  }
  Program program(torchrun, arguments, {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(program.wait_for("step 8/"));
  const std::vector<int> ranks = program.children_running(norma);
  ASSERT_EQ(ranks.size(), 2U);
  kill(ranks[1], SIGKILL);
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(tensors_of(work.path("straight") + "/step-30"), tensors_of(work.path("run") + "/step-30"));
}

}  // namespace
}  // namespace norma
