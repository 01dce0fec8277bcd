// Settings of attention and RoPE: combinations that mean nothing are refused, with the reason.
#include <algorithm>

#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/config/yaml.h"

namespace norma {
namespace {

// The problems of a config with latent attention and these overrides.
std::string complaints(std::vector<std::string> overrides, bool latent = true) {
  if (latent) {
    overrides.insert(overrides.begin(),
                     "model.attention={kind: mla, kv_rank: 64, nope_dim: 32, rope_dim: 16, value_dim: 32}");
  }
  const LoadedConfig loaded = load_config("", overrides);
  const Problems problems = loaded.problems.empty() ? validate(loaded.config) : loaded.problems;
  return join(describe(problems, loaded.source), "\n");
}

void expect_complaint(const std::string& text, const std::vector<std::string>& parts) {
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0) << text;
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
}

const std::string kYarn = "model.rope={scaling: yarn, factor: 40, original_length: 4096}";

TEST(AttentionConfig, WhatHasAMeaningIsTaken) {
  EXPECT_EQ(complaints({}), "");
  EXPECT_EQ(complaints({"model.attention.q_rank=96", "model.attention.rope_pairs=adjacent"}), "");
  EXPECT_EQ(complaints({"model.num_kv_heads=8"}), "");
  EXPECT_EQ(complaints({kYarn, "model.rope.mscale=1", "model.rope.mscale_all_dim=0.707"}), "");
  EXPECT_EQ(complaints({kYarn, "model.rope.attention_factor=1.2", "model.rope.beta_fast=16"}, false), "");
  EXPECT_EQ(complaints({"model.attention.rope_pairs=adjacent"}, false), "");
}

TEST(AttentionConfig, RefusesWhatHasNone) {
  expect_complaint(complaints({"model.attention.kv_rank=64"}, false), {"kv_rank", "latent attention", "kind: mla"});
  expect_complaint(complaints({"model.attention.q_rank=64"}, false), {"q_rank", "latent attention"});
  expect_complaint(complaints({"model.attention.value_dim=null"}), {"value_dim", "must be given"});
  expect_complaint(complaints({"model.attention.rope_dim=15"}), {"rope_dim", "even"});
  expect_complaint(complaints({"model.num_kv_heads=4"}), {"num_kv_heads", "for every head", "got 4"});
  expect_complaint(complaints({"model.head_dim=64"}), {"head_dim", "widths of its own"});
  expect_complaint(complaints({"model.clip_qkv=8"}), {"clip_qkv", "latent"});
  expect_complaint(complaints({"model.attention.kind=mqa"}), {"gqa, mla"});
}

TEST(AttentionConfig, RefusesHalfAYarn) {
  expect_complaint(complaints({"model.rope.scaling=yarn", "model.rope.factor=4"}),
                   {"original_length", "must be given"});
  expect_complaint(complaints({"model.rope.scaling=yarn", "model.rope.original_length=64"}),
                   {"factor", "must be given"});
  expect_complaint(complaints({"model.rope.factor=4"}), {"model.rope.factor", "scaling is none"});
  expect_complaint(complaints({"model.rope.beta_slow=2"}), {"model.rope.beta_slow", "scaling is none"});
  expect_complaint(complaints({kYarn, "model.rope.factor=0.5"}), {"from 1"});
  expect_complaint(complaints({kYarn, "model.rope.beta_fast=0.5"}), {"beta_fast", "beta_slow = 1"});
  expect_complaint(complaints({kYarn, "model.rope_theta=1"}), {"rope_theta", "above 1"});
}

}  // namespace
}  // namespace norma
