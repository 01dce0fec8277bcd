// Latent attention through the sharding engine: every strategy, micro-batches, recompute.
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

const TrainOutcome& one_process(TrainCase one) {
  one.strategy = "single";
  one.recompute = "none";
  one.replicas = 0;
  one.poison = false;
  return train_alone(one);
}

class LatentEngine : public ::testing::TestWithParam<int> {};

TEST_P(LatentEngine, EveryStrategyEqualsOneProcessInFloat64) {
  std::vector<TrainCase> cases;
  for (const std::int64_t micro_batch : {12, 2}) {
    for (const char* recompute : {"none", "block", "selective"}) {
      TrainCase like;
      like.model = "mla";
      like.micro_batch = micro_batch;
      like.recompute = recompute;
      like.poison = true;
      for (const TrainCase& one : every_strategy(like, GetParam())) cases.push_back(one);
    }
  }
  const std::vector<TrainOutcome> outcomes = run_train_cases(GetParam(), cases);
  ASSERT_EQ(outcomes.size(), cases.size());
  for (std::size_t c = 0; c < cases.size(); ++c) {
    expect_equal(outcomes[c], one_process(cases[c]), {1e-12, 1e-12, 1e-11}, cases[c].text());
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, LatentEngine, ::testing::Values(2, 4),
                         [](const auto& one) { return cat("On", one.param); });

TEST(LatentEngine, RecomputingChangesNoBit) {
  for (const char* preset : {"hybrid_star", "qk", "post_shifted", "qkvc_post"}) {
    for (const char* precision : {"fp64", "fp32", "bf16"}) {
      TrainCase plain;
      plain.model = "mla";
      plain.preset = preset;
      plain.precision = precision;
      plain.micro_batch = 5;
      const TrainOutcome& want = train_alone(plain);
      for (const char* recompute : {"block", "every_n", "selective"}) {
        TrainCase one = plain;
        one.recompute = recompute;
        expect_equal(train_alone(one), want, {0, 0, 0}, cat(preset, " ", one.text()));
      }
    }
  }
}

}  // namespace
}  // namespace norma
