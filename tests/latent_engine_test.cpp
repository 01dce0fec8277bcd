// Latent attention under the sharding engine, with every strategy, with micro-batches and with recompute.
#include <gtest/gtest.h>

#include "norma/base/text.h"

#include "support/train_case.h"

namespace norma {
namespace {

using testing::every_strategy;
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
  expect_reference(GetParam(), cases, one_process, {1e-12, 1e-12, 1e-11});
}

INSTANTIATE_TEST_SUITE_P(Ranks, LatentEngine, ::testing::Values(2, 4),
                         [](const auto& one) { return cat("On", one.param); });

TEST(LatentEngine, RecomputingChangesNoBit) {
  for (const char* preset : {"hybrid_star", "qk", "post_shifted", "qkvc_post"}) {
    TrainCase one;
    one.model = "mla";
    one.preset = preset;
    one.micro_batch = 5;
    expect_recompute_is_exact(one);
  }
}

}  // namespace
}  // namespace norma
