// The sharding engine with real processes over Gloo: the same numbers from every strategy, the traffic that theory
// gives, bounded memory, and steps after failures.
#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/parallel/launch.h"
#include "norma/parallel/sharding.h"

#include "support/errors.h"
#include "support/train_case.h"

namespace norma {
namespace {

using testing::every_strategy;
using testing::expect_equal;
using testing::run_train_cases;
using testing::train_alone;
using testing::TrainCase;
using testing::TrainOutcome;

const TrainOutcome& reference(TrainCase one) {
  one.strategy = "single";
  one.replicas = 0;
  one.micro_batch = one.batch;
  one.recompute = "none";
  one.reduce = "auto";
  one.reduce_dtype = "fp32";
  one.poison = one.evaluate_between = false;
  one.throw_in_step = -1;
  return train_alone(one);
}

// Over strategies, micro-batches, tied and untied heads, recomputation, and when gradients are summed.
class EveryStrategy : public ::testing::TestWithParam<int> {};

TEST_P(EveryStrategy, EqualsOneProcessInFloat64) {
  std::vector<TrainCase> cases;
  const std::vector<std::string> recomputes =
      GetParam() == 2 ? std::vector<std::string>{"none", "block", "selective"} : std::vector<std::string>{"block"};
  for (const bool tied : {true, false}) {
    for (const std::int64_t micro_batch : {12, 2}) {
      for (const std::string& recompute : recomputes) {
        for (const char* reduce : {"every_micro_batch", "once"}) {
          TrainCase like;
          like.tied = tied;
          like.micro_batch = micro_batch;
          like.recompute = recompute;
          like.reduce = reduce;
          like.poison = true;
          if (micro_batch == 12 && std::string(reduce) == "once") continue;
          for (const TrainCase& one : every_strategy(like, GetParam())) cases.push_back(one);
        }
      }
    }
  }
  expect_reference(GetParam(), cases, reference, {1e-12, 1e-12, 1e-11});
}

// Where ranks cannot share a batch evenly, a rank that lacks an instance makes a pass whose loss has no weight.
TEST_P(EveryStrategy, EqualsOneProcessWithUnevenBatches) {
  std::vector<TrainCase> cases;
  for (const std::int64_t micro_batch : {1, 3}) {
    TrainCase like;
    like.batch = 7;
    like.micro_batch = micro_batch;
    for (const TrainCase& one : every_strategy(like, GetParam())) cases.push_back(one);
  }
  expect_reference(GetParam(), cases, reference, {1e-12, 1e-12, 1e-11});
}

TEST_P(EveryStrategy, EqualsOneProcessInFloat32) {
  TrainCase like;
  like.precision = "fp32";
  like.steps = 20;
  like.micro_batch = 2;
  expect_reference(GetParam(), every_strategy(like, GetParam()), reference, {1e-6, 1e-6, 1e-5});
}

// In bf16 the split of the batch matters, the strategy does not.
TEST_P(EveryStrategy, InBfloat16DependsOnTheSplitOnly) {
  TrainCase like;
  like.precision = "bf16";
  like.steps = 20;
  like.micro_batch = 1;
  like.reduce = "once";
  std::vector<TrainCase> cases = every_strategy(like, GetParam());
  cases.push_back(cases[1]);
  const std::vector<TrainOutcome> outcomes = run_train_cases(GetParam(), cases);
  ASSERT_EQ(outcomes.size(), cases.size());
  const TrainOutcome &ddp = outcomes[0], &full = outcomes[1], &grad_op = outcomes[2];
  expect_equal(grad_op, full, {0, 0, 0}, "shard_grad_op");
  expect_equal(outcomes.back(), full, {0, 0, 0}, "the same run twice");
  expect_equal(ddp, full, {1e-6, 1e-5, 1e-4}, "ddp");
  if (GetParam() == 4) expect_equal(outcomes[3], full, {1e-6, 1e-5, 1e-4}, "hybrid");
}

INSTANTIATE_TEST_SUITE_P(Ranks, EveryStrategy, ::testing::Values(2, 4),
                         [](const auto& one) { return cat("On", one.param); });

TEST(ShardEngine, RecomputingChangesNoBit) {
  for (const char* preset : {"hybrid_star", "pre", "olmo2", "span"}) {
    TrainCase one;
    one.preset = preset;
    one.micro_batch = 5;
    expect_recompute_is_exact(one);
  }
}

TEST(ShardEngine, ThreeRanksAndGradientsThatTravelInBfloat16) {
  TrainCase exact, rounded;
  exact.strategy = rounded.strategy = "full_shard";
  exact.precision = rounded.precision = "fp32";
  rounded.reduce_dtype = "bf16";
  const std::vector<TrainOutcome> outcomes = run_train_cases(3, {exact, rounded});
  ASSERT_EQ(outcomes.size(), 2U);
  expect_equal(outcomes[0], reference(exact), {1e-6, 1e-6, 1e-5}, "three ranks");
  expect_equal(outcomes[1], outcomes[0], {1e-3, 1e-2, 1e-2}, "bf16 gradients");
  EXPECT_NEAR(outcomes[1].traffic.at("scattered_bytes").get<double>() * 2,
              outcomes[0].traffic.at("scattered_bytes").get<double>(), 1.0);
}

TEST(ShardEngine, StepsAreTheSameAfterAnEvaluationAndAfterAFailure) {
  std::vector<TrainCase> cases;
  for (const char* strategy : {"ddp", "full_shard", "shard_grad_op"}) {
    TrainCase one;
    one.strategy = strategy;
    one.evaluate_between = true;
    one.throw_in_step = 3;
    one.poison = true;
    one.micro_batch = 3;
    cases.push_back(one);
  }
  expect_reference(2, cases, reference, {1e-12, 1e-12, 1e-11});
}

// Collectives and bytes of one step are those of the formulas. Four ranks are there for the hybrid mesh; the other
// strategies need them for one reduction and preset only.
TEST(ShardEngine, SendsWhatTheFormulasSay) {
  for (const int world : {2, 4}) {
    std::vector<TrainCase> cases;
    for (const bool tied : {true, false}) {
      for (const std::int64_t micro_batch : {1, 3}) {
        for (const std::string reduce : {"every_micro_batch", "once"}) {
          for (const std::string preset : {"hybrid_star", "peri"}) {
            TrainCase like;
            like.tied = tied;
            like.batch = 3 * world;
            like.micro_batch = micro_batch;
            like.reduce = reduce;
            like.preset = preset;
            like.precision = "bf16";
            like.steps = 1;
            for (const TrainCase& one : every_strategy(like, world)) {
              const bool shown = world == 2 || one.strategy == "hybrid" || (reduce == "once" && preset == "peri");
              if (shown) cases.push_back(one);
            }
          }
        }
      }
    }
    const std::vector<TrainOutcome> outcomes = run_train_cases(world, cases);
    ASSERT_EQ(outcomes.size(), cases.size());
    for (std::size_t c = 0; c < cases.size(); ++c) {
      EXPECT_EQ(outcomes[c].traffic, outcomes[c].forecast) << cases[c].text();
      if (cases[c].strategy == "ddp") continue;
      EXPECT_NEAR(static_cast<double>(outcomes[c].pooled_bytes), static_cast<double>(outcomes[c].forecast_pooled_bytes),
                  0.05 * static_cast<double>(outcomes[c].forecast_pooled_bytes))
          << cases[c].text();
    }
  }
}

// However deep the model is, it needs a few buffers.
TEST(ShardEngine, LendsAFewBuffersOnly) {
  TrainCase untied, tied;
  untied.strategy = tied.strategy = "full_shard";
  untied.tied = false;
  untied.micro_batch = tied.micro_batch = 3;
  const std::vector<TrainOutcome> outcomes = run_train_cases(2, {untied, tied});
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_LE(outcomes[0].weight_buffers, 3);
  EXPECT_LE(outcomes[0].gradient_buffers, 2);
  EXPECT_LE(outcomes[1].weight_buffers, 4);    // the tied table stays gathered with the head
  EXPECT_LE(outcomes[1].gradient_buffers, 3);  // and keeps its gradient until the embedding's backward pass
}

LaunchEnvironment launch_from(const std::map<std::string, std::string>& variables) {
  return read_launch_environment([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional<std::string>(found->second);
  });
}

TEST(Launch, ReadsEveryLauncher) {
  EXPECT_EQ(launch_from({}).world_size, 1);
  const LaunchEnvironment torchrun = launch_from({{"RANK", "5"},
                                                  {"WORLD_SIZE", "8"},
                                                  {"LOCAL_RANK", "1"},
                                                  {"LOCAL_WORLD_SIZE", "4"},
                                                  {"MASTER_ADDR", "host"},
                                                  {"MASTER_PORT", "1234"},
                                                  {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                                  {"TORCHELASTIC_RESTART_COUNT", "2"},
                                                  {"SLURM_PROCID", "0"}});
  EXPECT_EQ(torchrun.launcher, Launcher::torchrun);
  EXPECT_EQ(torchrun.rank, 5);
  EXPECT_EQ(torchrun.local_world_size, 4);
  EXPECT_TRUE(torchrun.agent_store);
  EXPECT_EQ(torchrun.restart_count, 2);
  const LaunchEnvironment slurm = launch_from({{"SLURM_PROCID", "3"},
                                               {"SLURM_LOCALID", "1"},
                                               {"SLURM_NTASKS", "4"},
                                               {"SLURM_JOB_ID", "41"},
                                               {"SLURM_TASKS_PER_NODE", "2(x2)"},
                                               {"SLURM_JOB_NODELIST", "gpu[07-08]"}});
  EXPECT_EQ(slurm.launcher, Launcher::slurm);
  EXPECT_EQ(slurm.master_host, "gpu07");
  EXPECT_EQ(slurm.local_world_size, 2);
  EXPECT_EQ(slurm.master_port, 20041);
  const LaunchEnvironment mpi = launch_from({{"OMPI_COMM_WORLD_RANK", "1"},
                                             {"OMPI_COMM_WORLD_SIZE", "2"},
                                             {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                             {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(mpi.launcher, Launcher::open_mpi);
  EXPECT_EQ(mpi.master_host, "127.0.0.1");
}

TEST(Launch, NamesTheVariableThatIsWrong) {
  EXPECT_TRUE(testing::contains(testing::error_text<ConfigError>([] {
                                  launch_from({{"RANK", "8"}, {"WORLD_SIZE", "8"}});
                                }),
                                "RANK"));
  EXPECT_TRUE(testing::contains(testing::error_text<ConfigError>([] {
                                  launch_from({{"RANK", "0"}, {"WORLD_SIZE", "two"}});
                                }),
                                "WORLD_SIZE"));
  EXPECT_TRUE(testing::contains(testing::error_text<ConfigError>([] {
                                  launch_from({{"RANK", "0"}, {"WORLD_SIZE", "2"}});
                                }),
                                "MASTER_ADDR"));
}

TEST(Launch, FindsTheFirstHostOfANodeList) {
  EXPECT_EQ(first_slurm_host("node1"), "node1");
  EXPECT_EQ(first_slurm_host("node1,node2"), "node1");
  EXPECT_EQ(first_slurm_host("node[07-09,12],other"), "node07");
  EXPECT_EQ(first_slurm_host("rack[1,3]-gpu,x"), "rack1-gpu");
  EXPECT_TRUE(testing::contains(testing::error_text<ConfigError>([] { first_slurm_host(""); }), "MASTER_ADDR"));
  EXPECT_TRUE(testing::contains(testing::error_text<ConfigError>([] { first_slurm_host("node[1"); }), "MASTER_ADDR"));
}

TEST(Strategy, RefusesMeshesThatDoNotFit) {
  LaunchEnvironment four;
  four.world_size = four.local_world_size = 4;
  ParallelConfig config;
  config.strategy = Strategy::single;
  EXPECT_TRUE(
      testing::contains(testing::error_text<ConfigError>([&] { mesh_degrees(config, four); }), "parallel.strategy"));
  config.strategy = Strategy::hybrid;
  config.replicas = 3;
  EXPECT_TRUE(
      testing::contains(testing::error_text<ConfigError>([&] { mesh_degrees(config, four); }), "parallel.replicas"));
  config.replicas = 2;
  EXPECT_EQ(mesh_degrees(config, four).shard, 2);
  config = {};
  EXPECT_EQ(mesh_degrees(config, four).shard, 4);
}

}  // namespace
}  // namespace norma
