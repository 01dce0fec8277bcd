// The sharding engine where ranks differ or something is wrong with one of them: parameters without a gradient, frozen
// ones, a gradient that is not finite, replicas that become different, and a rank that dies while a checkpoint is
// saved.
#include <cmath>
#include <cstring>
#include <set>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/checkpoint/state.h"
#include "norma/config/names.h"
#include "norma/train/train_step.h"

#include "support/errors.h"
#include "support/fixtures.h"
#include "support/rank_model.h"
#include "support/tiny_model.h"
#include "support/train_case.h"

namespace norma {
namespace {

using testing::RankModel;
using testing::RankResult;
using testing::run_ranks;
using testing::tiny_config;
using testing::TinyModel;

constexpr int kKilled = 137;

RunConfig config_of(const Json& argument) {
  RunConfig config = tiny_config(3);
  config.parallel.strategy = *parse_enum<Strategy>(argument.at("strategy").get<std::string>());
  return config;
}

at::Tensor row(std::int64_t b) {
  const at::Tensor t = at::arange(16, at::kLong);
  return ((t * (5 + b) + t * t * 3 + 7 * b) % 61).unsqueeze(0);  // [1, T]
}

// Micro-batches add up in the gradient's own memory, and steps do not count as changes of the leaves.
TEST(ShardEngine, GradientsAddUpInPlace) {
  for (const Precision precision : {Precision::fp64, Precision::fp32, Precision::bf16}) {
    RunConfig config = tiny_config(3);
    config.precision = precision;
    RankModel rank(config, {});
    struct Leaf {
      at::Tensor tensor;
      void* gradient;
      std::int64_t version;
    };
    std::vector<Leaf> leaves;
    for (const Unit& unit : rank.model.units()) {
      for (const UnitParameter& p : unit.parameters) {
        leaves.push_back({p.tensor, p.tensor.grad().data_ptr(), static_cast<std::int64_t>(p.tensor._version())});
      }
    }
    TrainStep step(rank.step_parts(), {.micro_batch = 1, .global_batch = 3, .loss_chunk = 64});
    for (std::int64_t s = 1; s <= 2; ++s) step.run(at::cat({row(0), row(1), row(2)}), 1e-3, s);
    for (const Leaf& leaf : leaves) {
      EXPECT_EQ(leaf.tensor.grad().data_ptr(), leaf.gradient);
      EXPECT_EQ(static_cast<std::int64_t>(leaf.tensor._version()), leaf.version);
      EXPECT_GT(leaf.tensor.grad().abs().max().item<double>(), 0.0);
    }
  }
}

// Leaves a block out for the rows of the second of two ranks, so that its parameters get no gradient there.
class BypassRunner : public ForwardingRunner {
 public:
  BypassRunner(UnitRunner& inner, std::int64_t row_index) : ForwardingRunner(inner), row_(row_index) {}
  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override {
    const UnitBody bypass = [](const TensorList& in) -> TensorList { return {in[0] * 1.0}; };
    return ForwardingRunner::run(unit, unit.name == "blocks.1" && row_ % 2 == 1 ? bypass : body, inputs);
  }

 private:
  std::int64_t row_;
};

// name -> [begin, values] of this rank's gradients, after a pass over its share of eight rows.
Json bypass_gradients(const Json& argument, const LaunchEnvironment& launch) {
  RankModel rank(config_of(argument), launch, /*poison_released=*/true);
  rank.engine.clear_gradients();
  constexpr std::int64_t kRows = 8;
  for (std::int64_t b = launch.rank; b < kRows; b += launch.world_size) {
    BypassRunner runner(rank.engine, b);
    rank.engine.begin_micro_batch(b + launch.world_size >= kRows);
    rank.model.loss(row(b), {1.0 / kRows, 0.0, 64}, runner).loss.backward();
  }
  rank.engine.finish_gradients();
  Json ranges = Json::object();
  for (const ShardPiece& piece : rank.engine.pieces()) {
    const at::Tensor g = values_of(piece, rank.engine.flat_units()[piece.unit].gradient);
    const double* const values = g.const_data_ptr<double>();
    ranges[piece.tensor->name] = {piece.begin, std::vector<double>(values, values + g.numel())};
  }
  return ranges;
}

TEST(ShardEngine, AParameterMayGetNoGradientOnOneRank) {
  const Json whole = bypass_gradients({{"strategy", "single"}}, {});
  for (const char* strategy : {"ddp", "full_shard", "shard_grad_op"}) {
    const std::vector<RankResult> ranks = run_ranks(2, "bypass", {{"strategy", strategy}});
    std::set<std::string> seen;
    for (const RankResult& rank : ranks) {
      ASSERT_EQ(rank.exit_code, 0) << rank.error;
      for (const auto& [name, range] : rank.result.items()) {
        const auto begin = range.at(0).get<std::size_t>();
        const auto got = range.at(1).get<std::vector<double>>();
        const auto want = whole.at(name).at(1).get<std::vector<double>>();
        for (std::size_t i = 0; i < got.size(); ++i) {
          ASSERT_NEAR(got[i], want.at(begin + i), 1e-12) << strategy << " " << name << " " << begin + i;
        }
        seen.insert(name);
      }
    }
    EXPECT_EQ(seen.size(), whole.size());
  }
}

// Frozen parameters get no gradient, and the others get the one that they get when nothing is frozen.
TEST(Freeze, LeavesTheOthersAsTheyAre) {
  const TinyModel plain = testing::make_tiny_model(tiny_config(3), testing::preset_plan("hybrid_star", 3, 1e-5));
  plain.backward(testing::tiny_ids());
  const std::vector<std::vector<std::string>> lists = {
      {"embedding.*", "blocks.0.*"}, {"blocks.1.*"}, {"*.norm_*"}, {"head.*", "blocks.2.mlp.down.weight"}};
  for (const auto& freeze : lists) {
    RunConfig config = tiny_config(3);
    config.train.freeze = freeze;
    const TinyModel frozen = testing::make_tiny_model(config, plain.plan);
    frozen.backward(testing::tiny_ids());
    int kept = 0;
    for (const UnitLayout& unit : frozen.engine->layout().units) {
      for (const TensorSpan& span : unit.tensors) {
        const at::Tensor leaf = frozen.parameter(span.name);
        EXPECT_EQ(leaf.requires_grad(), !span.frozen);
        kept += span.frozen ? 1 : 0;
        if (span.frozen) continue;
        EXPECT_TRUE(at::equal(leaf.grad(), plain.parameter(span.name).grad())) << span.name;
      }
    }
    EXPECT_GT(kept, 0) << freeze[0];
  }
}

TEST(Freeze, EveryStrategyTrainsTheSameAndSendsLess) {
  const std::vector<std::vector<std::string>> lists = {
      {"embedding.*", "blocks.0.*"}, {"blocks.1.*"}, {"*.norm_*", "head.*"}, {"blocks.*"}};
  std::vector<testing::TrainCase> cases;
  for (const char* strategy : {"ddp", "full_shard", "shard_grad_op"}) {
    for (const auto& freeze : lists) {
      for (const char* recompute : {"none", "block"}) {
        testing::TrainCase one;
        one.strategy = strategy;
        one.freeze = freeze;
        one.tied = freeze[0] == "blocks.1.*";
        one.recompute = recompute;
        one.micro_batch = 3;
        one.poison = true;
        one.preset = "peri";  // norms around the embedding, too
        cases.push_back(one);
      }
    }
  }
  const auto outcomes = testing::run_train_cases(2, cases);
  ASSERT_EQ(outcomes.size(), cases.size());
  for (std::size_t c = 0; c < cases.size(); ++c) {
    testing::TrainCase alone = cases[c];
    alone.strategy = "single";
    const auto& want = train_alone(alone);
    alone.steps = 0;
    const auto& start = train_alone(alone);
    EXPECT_EQ(outcomes[c].traffic, outcomes[c].forecast) << cases[c].text();
    for (std::size_t s = 0; s < want.losses.size(); ++s) {
      EXPECT_NEAR(outcomes[c].losses[s], want.losses[s], 1e-12 * want.losses[s]) << cases[c].text();
    }
    int changed = 0;
    for (const auto& [name, values] : outcomes[c].weights) changed += values != start.weights.at(name) ? 1 : 0;
    EXPECT_GT(changed, 0);
    EXPECT_LT(changed, static_cast<int>(start.weights.size()));
    for (const auto& [name, values] : want.weights) {
      EXPECT_EQ(values == start.weights.at(name), outcomes[c].weights.at(name) == start.weights.at(name)) << name;
    }
  }
}

std::string hash_of_weights(const RankModel& rank) {
  RunningChecksum hash;
  for (const FlatUnit& unit : rank.engine.flat_units()) {
    hash.update({static_cast<const std::byte*>(unit.master.const_data_ptr()), unit.master.nbytes()});
  }
  return hash.digest();
}

// Plants a gradient that is not finite on one rank.
Json worker_nan(const Json& argument) {
  const LaunchEnvironment launch = read_launch_environment();
  RankModel rank(config_of(argument), launch);
  if (launch.rank == 1) {
    for (const UnitParameter& p : rank.model.units()[2].parameters) {
      if (p.name != "blocks.1.attention.out.weight") continue;
      p.tensor.register_hook([](const at::Tensor& gradient) {
        const at::Tensor planted = gradient.clone();
        planted.view(-1)[5] = std::nan("");
        return planted;
      });
    }
  }
  const std::string before = hash_of_weights(rank);
  TrainStep step(rank.step_parts(), {.micro_batch = 1, .global_batch = 4, .loss_chunk = 64});
  const at::Tensor ids = at::cat({row(launch.rank), row(launch.rank + 2)});
  const std::string text = testing::error_text<DivergedError>([&] { step.run(ids, 1e-3, 1); });
  return {{"text", text}, {"kept", before == hash_of_weights(rank)}};
}

TEST(Guards, ANanInOneRanksGradientChangesNoWeightAnywhere) {
  for (const char* strategy : {"ddp", "full_shard", "shard_grad_op"}) {
    for (const RankResult& rank : run_ranks(2, "nan", {{"strategy", strategy}})) {
      ASSERT_EQ(rank.exit_code, 0) << rank.error;
      EXPECT_TRUE(
          testing::contains(rank.result.at("text").get<std::string>(), "the gradient of blocks.1.attention.out"))
          << rank.result;
      EXPECT_TRUE(rank.result.at("kept").get<bool>());
    }
  }
}

// Changes one weight in one replica by its last bit.
Json worker_replicas(const Json& argument) {
  const LaunchEnvironment launch = read_launch_environment();
  RunConfig config = config_of(argument);
  if (config.parallel.strategy == Strategy::hybrid) config.parallel.replicas = 2;
  RankModel rank(config, launch);
  TrainStep step(rank.step_parts(), {.micro_batch = 1, .global_batch = 4, .loss_chunk = 64});
  for (std::int64_t s = 1; s <= 2; ++s) step.run(row(launch.rank), 1e-3, s);
  check_replicas(rank.engine, rank.world, 2);
  if (launch.rank == launch.world_size - 1) {
    double& weight = rank.engine.flat_units()[1].master.mutable_data_ptr<double>()[3];
    weight = std::nextafter(weight, 1.0);
  }
  return testing::error_text<DivergedError>([&] { check_replicas(rank.engine, rank.world, 2); });
}

TEST(Guards, APlantedDifferenceOfReplicasIsFound) {
  for (const char* strategy : {"ddp", "hybrid"}) {
    for (const RankResult& rank : run_ranks(4, "replicas", {{"strategy", strategy}})) {
      ASSERT_EQ(rank.exit_code, 0) << rank.error;
      EXPECT_TRUE(testing::contains(rank.result.get<std::string>(), "rank 3 holds other weights than rank"))
          << rank.result;
    }
  }
}

// The state of a rank whose every weight is `value`.
FlatState state_of(const RankModel& rank, double value) {
  const Mesh& mesh = rank.engine.mesh();
  FlatState state{rank.layout, mesh.shard_degree, mesh.shard_rank, mesh.replica == 0, {}, {}, {}};
  for (const FlatUnit& unit : rank.engine.flat_units()) state.weights.push_back(at::full_like(unit.master, value));
  return state;
}

// Saves step 1, then dies at the given moment of the commit of step 2.
Json worker_dying_save(const Json& argument) {
  const LaunchEnvironment launch = read_launch_environment();
  const auto moment = static_cast<CommitStep>(argument.at("moment").get<int>());
  const auto root = argument.at("root").get<std::string>();
  const bool while_writing = argument.at("while_writing").get<bool>();
  RankModel rank(config_of(argument), launch);
  for (const std::int64_t step : {1, 2}) {
    Manifest manifest;
    manifest.step = step;
    CheckpointSave save(root, manifest, state_of(rank, static_cast<double>(step)), rank.world, SaveMode::background);
    if (step == 2 && while_writing && launch.rank == 1) _exit(kKilled);
    save.finish([&](CommitStep at) {
      if (step == 2 && !while_writing && at == moment) _exit(kKilled);
    });
  }
  return true;
}

// What the next job finds: the values that its weights have, and the step.
Json worker_load(const Json& argument) {
  RankModel rank(config_of(argument), read_launch_environment());
  const FoundCheckpoint found =
      find_newest_checkpoint(argument.at("root").get<std::string>(), CheckpointCheck::checksums);
  const Manifest manifest = open_checkpoint(found.folder.value());
  const FlatState state = state_of(rank, 0.0);
  read_checkpoint(*found.folder, manifest, state);
  std::set<double> values;
  for (const ShardPiece& piece : rank.engine.pieces()) {
    const at::Tensor range = values_of(piece, state.weights[piece.unit]);
    values.insert({range.min().item<double>(), range.max().item<double>()});
  }
  return {{"values", values}, {"step", manifest.step}, {"skipped", found.skipped.size()}};
}

void expect_whole_checkpoint(const std::string& root, const std::string& what) {
  for (const RankResult& rank : run_ranks(2, "load", {{"strategy", "full_shard"}, {"root", root}})) {
    ASSERT_EQ(rank.exit_code, 0) << what << rank.error;
    EXPECT_EQ(rank.result.at("values").size(), 1U) << what << rank.result;
    EXPECT_EQ(rank.result.at("values").at(0).get<double>(), rank.result.at("step").get<double>()) << what;
    EXPECT_EQ(rank.result.at("skipped"), 0) << what;
  }
}

TEST(Guards, ADeathAtAnyMomentOfASaveLeavesAWholeCheckpoint) {
  for (int moment = 0; moment <= static_cast<int>(CommitStep::done); ++moment) {
    const testing::TemporaryFolder folder;
    const std::string root = folder.path().string();
    const Json argument = {{"strategy", "full_shard"}, {"root", root}, {"moment", moment}, {"while_writing", false}};
    const std::vector<RankResult> ranks = run_ranks(3, "dying_save", argument);
    EXPECT_EQ(ranks[0].exit_code, kKilled) << ranks[0].error;
    for (const std::size_t r : {1U, 2U}) EXPECT_EQ(ranks[r].exit_code, 6) << moment << " " << ranks[r].error;
    expect_whole_checkpoint(root, cat("moment ", moment, " "));
  }
}

TEST(Guards, ADeathWhileWritingLeavesTheCheckpointBefore) {
  const testing::TemporaryFolder folder;
  const std::string root = folder.path().string();
  const Json argument = {{"strategy", "full_shard"}, {"root", root}, {"moment", 0}, {"while_writing", true}};
  const std::vector<RankResult> ranks = run_ranks(3, "dying_save", argument);
  EXPECT_EQ(ranks[1].exit_code, kKilled) << ranks[1].error;
  for (const std::size_t r : {0U, 2U}) EXPECT_EQ(ranks[r].exit_code, 6) << ranks[r].error;
  expect_whole_checkpoint(root, "while writing ");
}

const bool kWorkers[] = {
    testing::register_worker(
        "bypass", [](const Json& argument) { return bypass_gradients(argument, read_launch_environment()); }),
    testing::register_worker("nan", worker_nan), testing::register_worker("replicas", worker_replicas),
    testing::register_worker("dying_save", worker_dying_save), testing::register_worker("load", worker_load)};

}  // namespace
}  // namespace norma
