// The recipes that placements come with, and what is said when a config leaves them in a way that is known to fail.
#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/text.h"
#include "norma/config/yaml.h"
#include "norma/train/run_plan.h"

#include "support/errors.h"

namespace norma {
namespace {

std::string configs(const std::string& name) {
  return cat(NORMA_SOURCE_DIR, "/configs/", name);
}

RunPlan plan_of(const std::string& config, const std::vector<std::string>& overrides) {
  LoadedConfig loaded = load_config(configs(config), overrides);
  append(loaded.problems, validate(loaded.config));
  const NormPlan norms = make_norm_plan(loaded.config.norm, loaded.config.model, loaded.problems);
  for (const std::string& line : describe(loaded.problems, loaded.source)) ADD_FAILURE() << line;
  return make_run_plan(loaded.config, norms, /*batches_per_epoch=*/0);
}

TEST(Recipes, EveryOneFitsAConfigAndNothingSpeaksAgainstIt) {
  int recipes = 0;
  for (const auto& entry : fs::directory_iterator(configs("recipes"))) {
    const std::string name = entry.path().stem();
    const std::string config = name == "olmoe" ? "moe-1b-7b.yaml" : "550m.yaml";
    const RunPlan plan = plan_of(config, {cat("@", entry.path().string())});
    EXPECT_EQ(plan.config.norm.preset, name);
    for (const std::string& risk : known_risks(plan)) ADD_FAILURE() << name << ": " << risk;
    ++recipes;
  }
  EXPECT_GE(recipes, 11);
}

TEST(Recipes, DeparturesThatAreKnownToFailAreNamed) {
  struct Case {
    std::string config;
    std::vector<std::string> overrides;
    std::string text;
  };
  const std::vector<Case> cases = {
      {"550m.yaml", {"norm.preset=hybrid", "init.scheme=normal"}, "init.scheme: megatron"},
      {"550m.yaml", {"norm.preset=hybrid_star", "schedule.warmup=1e8"}, "2,000 steps of warm-up"},
      {"550m.yaml", {"norm.preset=qk_post"}, "QK-Post"},
      {"1.2b.yaml", {"norm.preset=hybrid", "optim.lr=1e-3"}, "SiameseNorm"},
      {"1.2b.yaml", {"norm.preset=span", "optim.lr=2e-3"}, "SpanNorm diverged"},
      {"543m-29-layers.yaml", {"norm.preset=post"}, "29 layers"},
      {"543m-29-layers.yaml", {"norm.preset=post_shifted"}, "29 layers"},
      {"550m.yaml", {"norm.preset=post", "optim.lr=1e-3"}, "Mix-LN"},
      {"550m.yaml", {"norm.preset=deep", "init.scheme=megatron"}, "Xavier"}};
  for (const Case& one : cases) {
    const RunPlan plan = plan_of(one.config, one.overrides);
    const std::vector<std::string> risks = known_risks(plan);
    ASSERT_EQ(risks.size(), 1U) << one.text;
    EXPECT_TRUE(testing::contains(risks[0], one.text)) << risks[0];
    EXPECT_TRUE(testing::contains(describe(plan), "risk: " + risks[0]));
  }
  for (const char* preset : {"pre", "qk", "qkv", "olmo2", "sandwich", "peri", "lns"}) {
    EXPECT_TRUE(known_risks(plan_of("543m-29-layers.yaml", {cat("norm.preset=", preset)})).empty()) << preset;
  }
}

TEST(Recipes, AFileOfKeysIsAnOverrideWithItsOwnLines) {
  EXPECT_TRUE(testing::contains(
      testing::error_text<ConfigError>([] { load_config(configs("tiny.yaml"), {"@/nowhere/recipe.yaml"}); }),
      "/nowhere/recipe.yaml"));
  const LoadedConfig loaded =
      load_config(configs("tiny.yaml"), {"optim.lr=7", cat("@", configs("recipes/pre.yaml")), "norm.preset=qk"});
  EXPECT_TRUE(loaded.problems.empty());
  EXPECT_EQ(loaded.config.norm.preset, "qk");  // the last of them wins
  EXPECT_EQ(loaded.config.optim.lr, 3e-4);
}

}  // namespace
}  // namespace norma
