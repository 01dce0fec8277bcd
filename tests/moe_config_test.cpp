// Settings of the experts: which layers have them, and combinations that mean nothing.
#include <algorithm>

#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/config/yaml.h"

namespace norma {
namespace {

// The problems of a config with these overrides, one per line.
std::string complaints(const std::vector<std::string>& overrides) {
  const LoadedConfig loaded = load_config("", overrides);
  const Problems problems = loaded.problems.empty() ? validate(loaded.config) : loaded.problems;
  return join(describe(problems, loaded.source), "\n");
}

void expect_complaint(const std::vector<std::string>& overrides, const std::vector<std::string>& parts) {
  const std::string text = complaints(overrides);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0) << text;
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
}

TEST(MoeConfig, LayersMayDiffer) {
  const LoadedConfig loaded =
      load_config("", {"model.num_layers=6", "model.mlp=moe", "model.layers={'0': {mlp: dense}, '3-4': {mlp: dense}}"});
  EXPECT_EQ(loaded.config.model.moe_layers(), (std::vector<std::int64_t>{1, 2, 5}));
  const LoadedConfig nested = load_config(
      "", {"model.num_layers=4", "model.layers={all: {mlp: moe}, '1-2': {mlp: dense}, '2': {mlp: moe}, '3': {}}"});
  EXPECT_EQ(nested.config.model.moe_layers(), (std::vector<std::int64_t>{0, 2, 3}));
  EXPECT_EQ(complaints({"model.layers={'5': {mlp: moe}}"}), "");
  expect_complaint({"model.layers={'6': {mlp: moe}}"}, {"model.layers", "'0' to '5'"});
  expect_complaint({"model.layers={'0-2': {mlp: moe}, '2-3': {mlp: dense}}"}, {"overlaps model.layers.0-2"});
  expect_complaint({"model.layers={'0': {mlp: sparse}}"}, {"sparse", "dense", "moe"});
}

TEST(MoeConfig, DefaultsAreDerived) {
  const LoadedConfig loaded = load_config("", {"model.mlp_dim=100", "model.moe={shared_experts: 2, groups: 4}"});
  EXPECT_EQ(loaded.config.model.expert_width(), 100);
  EXPECT_EQ(loaded.config.model.shared_width(), 200);
  EXPECT_EQ(loaded.config.model.moe_top_groups(), 4);
}

TEST(MoeConfig, DeepSeeksRouterIsAValue) {
  EXPECT_EQ(complaints({"model.mlp=moe",
                        "model.moe={num_experts: 16, top_k: 4, expert_dim: 32, shared_experts: 1, scoring: sigmoid, "
                        "normalize_weights: true, routed_scale: 2.5, groups: 4, top_groups: 2, group_score: top2, "
                        "selection_bias: true, balance_loss: 0, z_loss: 0, router_precision: fp32}"}),
            "");
}

TEST(MoeConfig, CombinationsWithoutMeaningAreRefused) {
  expect_complaint({"model.moe.num_experts=64"}, {"model.moe", "every layer is dense"});
  expect_complaint({"model.mlp=moe", "model.moe.top_k=9"}, {"model.moe.top_k", "from 1 to 8", "got 9"});
  expect_complaint({"model.mlp=moe", "model.moe.groups=3"}, {"model.moe.groups", "must divide num_experts = 8"});
  expect_complaint({"model.mlp=moe", "model.moe={groups: 4, top_groups: 5}"}, {"model.moe.top_groups", "from 1 to 4"});
  expect_complaint({"model.mlp=moe", "model.moe={groups: 4, top_groups: 1, top_k: 3}"},
                   {"must hold top_k = 3", "hold 2"});
  expect_complaint({"model.mlp=moe", "model.moe={groups: 8, group_score: top2}"},
                   {"model.moe.group_score", "at least 2"});
  expect_complaint({"model.mlp=moe", "model.moe.balance_loss=-1"}, {"model.moe.balance_loss", "at least 0"});
  expect_complaint({"model.mlp=moe", "model.moe.routed_scale=0"}, {"model.moe.routed_scale", "above 0"});
  expect_complaint({"model.mlp=moe", "model.moe.scoring=tanh"}, {"model.moe.scoring", "softmax", "sigmoid"});
  expect_complaint({"model.mlp=moe", "model.moe.num_expert=4"}, {"num_experts"});
}

TEST(MoeConfig, SizesThatCannotBeCountedAreRefused) {
  const std::string text =
      complaints({"model.mlp=moe", "model.moe={num_experts: 65536, expert_dim: 16777216}", "model.d_model=1048576",
                  "model.num_layers=10000", "train.global_batch_size=1", "model.num_heads=1024"});
  EXPECT_NE(text.find("2^57"), std::string::npos) << text;
}

}  // namespace
}  // namespace norma
