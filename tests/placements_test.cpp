// Experts and latent attention under every named placement: they train. scripts/campaign.sh placements does so at
// length.
#include <cmath>

#include <gtest/gtest.h>

#include "support/train_case.h"

namespace norma {
namespace {

class EveryPlacement : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryPlacement, TrainsExpertsAndLatents) {
  for (const char* model : {"moe", "moe_deepseek", "mla", "mla_moe"}) {
    testing::TrainCase one;
    one.model = model;
    one.preset = GetParam();
    one.precision = "fp32";
    one.steps = 25;
    one.micro_batch = 6;
    const auto& outcome = train_alone(one);
    for (const double loss : outcome.losses) ASSERT_TRUE(std::isfinite(loss)) << model;
    for (const double norm : outcome.norms) ASSERT_TRUE(std::isfinite(norm)) << model;
    EXPECT_LT(outcome.losses.back(), outcome.losses.front()) << model;
  }
}

INSTANTIATE_TEST_SUITE_P(Named, EveryPlacement,
                         ::testing::Values("pre", "post", "qk", "qkv", "hybrid", "hybrid_star", "mix", "deep", "span"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace norma
