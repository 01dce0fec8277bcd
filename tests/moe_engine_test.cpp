// Experts under the sharding engine with real processes. The losses are those of each rank's micro-batches, and one
// process that computes the same losses gives the same numbers.
#include <algorithm>

#include <gtest/gtest.h>

#include "norma/base/text.h"

#include "support/train_case.h"

namespace norma {
namespace {

using testing::every_strategy;
using testing::expect_equal;
using testing::run_train_cases;
using testing::train_alone;
using testing::TrainCase;
using testing::TrainOutcome;

// One process that takes the ranks' micro-batches one after the other.
const TrainOutcome& reference(TrainCase one, int world) {
  one.strategy = "single";
  one.rows_of = world;
  one.micro_batch = std::min(one.micro_batch, one.batch / world);
  one.replicas = 0;
  one.recompute = "none";
  one.reduce = "auto";
  one.poison = one.evaluate_between = false;
  return train_alone(one);
}

void expect_same_routing(const TrainOutcome& got, const TrainOutcome& want, const std::string& what) {
  EXPECT_EQ(got.tokens, want.tokens) << what;
  ASSERT_EQ(got.balance.size(), want.balance.size());
  for (std::size_t s = 0; s < got.balance.size(); ++s) {
    EXPECT_NEAR(got.balance[s], want.balance[s], 1e-12 * want.balance[s]) << what;
    EXPECT_NEAR(got.router_z[s], want.router_z[s], 1e-12 * want.router_z[s]) << what;
  }
}

class Experts : public ::testing::TestWithParam<int> {};

TEST_P(Experts, EqualOneProcessUnderEveryStrategy) {
  const int world = GetParam();
  std::vector<TrainCase> cases;
  for (const char* model : {"moe", "moe_deepseek"}) {
    for (const std::int64_t micro_batch : {12, 1}) {
      for (const char* recompute : {"none", "block", "selective"}) {
        if (world == 4 && std::string(recompute) == "none") continue;
        TrainCase like;
        like.model = model;
        like.micro_batch = micro_batch;
        like.recompute = recompute;
        like.tied = micro_batch == 1;
        like.poison = like.evaluate_between = true;
        like.steps = 4;
        for (const TrainCase& one : every_strategy(like, world)) cases.push_back(one);
      }
    }
  }
  const std::vector<TrainOutcome> outcomes = run_train_cases(world, cases);
  ASSERT_EQ(outcomes.size(), cases.size());
  for (std::size_t c = 0; c < cases.size(); ++c) {
    const TrainOutcome& want = reference(cases[c], world);
    expect_equal(outcomes[c], want, {1e-12, 1e-12, 1e-11}, cases[c].text());
    expect_same_routing(outcomes[c], want, cases[c].text());
    for (const int idle : outcomes[c].idle_experts) EXPECT_GT(idle, 0) << "some expert should get no token of a rank";
    ASSERT_EQ(outcomes[c].tokens.size(), 2U);  // two of the three layers have experts
    for (const std::vector<double>& tokens : outcomes[c].tokens) {
      double all = 0.0;
      for (const double n : tokens) all += n;
      EXPECT_EQ(all, 12.0 * 16 * 2) << "each token counts once for each of its experts, recomputed or not";
    }
  }
}

// A rank that lacks an instance makes a pass of weight 0, which adds nothing to losses and counts.
TEST_P(Experts, APassOfNoWeightAddsNothing) {
  std::vector<TrainCase> cases;
  for (const char* model : {"moe", "moe_no_losses"}) {
    TrainCase like;
    like.model = model;
    like.batch = 7;
    like.micro_batch = 1;
    like.steps = 3;
    for (const TrainCase& one : every_strategy(like, GetParam())) cases.push_back(one);
  }
  const std::vector<TrainOutcome> outcomes = run_train_cases(GetParam(), cases);
  ASSERT_EQ(outcomes.size(), cases.size());
  for (std::size_t c = 0; c < cases.size(); ++c) {
    for (const std::vector<double>& tokens : outcomes[c].tokens) {
      double all = 0.0;
      for (const double n : tokens) all += n;
      EXPECT_EQ(all, 7.0 * 16 * 2);
    }
    if (cases[c].model == "moe") {
      expect_equal(outcomes[c], outcomes[0], {1e-12, 1e-12, 1e-11}, cases[c].text());
      continue;  // the balance loss is an average of each rank, which one process cannot compute for uneven ranks
    }
    TrainCase alone = cases[c];
    alone.strategy = "single";
    alone.replicas = 0;
    expect_equal(outcomes[c], train_alone(alone), {1e-12, 1e-12, 1e-11}, cases[c].text());
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Experts, ::testing::Values(2, 4), [](const auto& one) { return cat("On", one.param); });

TEST(ExpertsAlone, RecomputingChangesNoBit) {
  TrainCase one;
  one.model = "moe_deepseek";
  one.micro_batch = 5;
  expect_recompute_is_exact(one);
}

TEST(ExpertsAlone, ASelectionBiasNeverChanges) {
  TrainCase one;
  one.model = "moe_deepseek";
  const TrainOutcome& outcome = train_alone(one);
  EXPECT_EQ(outcome.weights.at("blocks.2.mlp.selection_bias"), std::vector<double>(24, 0.0));
}

}  // namespace
}  // namespace norma
