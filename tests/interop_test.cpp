// Folders of Hugging Face transformers: logits, caches and gradients of its own models.
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/interop/hf_folder.h"
#include "norma/model/parameters.h"
#include "norma/model/transformer.h"
#include "norma/parallel/shard_engine.h"

#include "../src/model/rotary.h"
#include "support/fixtures.h"
#include "support/hf_expected.h"
#include "support/registration.h"

namespace norma {
namespace {

using testing::expected_ids;
using testing::expected_logits;

// A model with the folder's weights. Shape and placement are the folder's unless others are given.
struct Imported {
  Imported(const HfFolder& folder, Precision precision)
      : Imported(folder, precision, folder.model().model, folder.model().plan) {}
  Imported(const HfFolder& folder, Precision precision, const ModelConfig& config, const NormPlan& plan)
      : model(config, plan),
        engine(model.units(), model_layout(model_parameters(config, plan), {}), precision, at::kCPU) {
    engine.fill(folder);
  }

  at::Tensor logits(const at::Tensor& ids, DecodeCache* cache = nullptr) {
    const c10::NoGradGuard no_grad;
    return model.logits(ids, engine, cache).to(at::kDouble);
  }

  Transformer model;
  ShardEngine engine;
};

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

void expect_tensors(const HfModel& model, const Json& expected) {
  std::map<std::string, std::vector<std::int64_t>> names;
  for (const HfRange& range : hf_ranges(model)) names[range.tensor] = range.shape;
  EXPECT_EQ(names, (expected.at("tensors").get<std::map<std::string, std::vector<std::int64_t>>>()));
  const std::int64_t buffers = expected.value("num_buffer_values", std::int64_t{0});  // selection biases
  EXPECT_EQ(num_parameters(model_parameters(model.model, model.plan)),
            expected.at("num_parameters").get<std::int64_t>() + buffers);
}

// Decoding token by token after a prompt; the cache of latent attention has the shapes of transformers' cache.
void expect_cached_decoding(Imported& imported, const Json& expected) {
  const at::Tensor ids = expected_ids(expected), whole = imported.logits(ids);
  for (const std::int64_t prompt : {1, 5}) {
    DecodeCache cache;
    EXPECT_LE(largest_difference(imported.logits(ids.narrow(1, 0, prompt), &cache), whole.narrow(1, 0, prompt)), 1e-12);
    for (std::int64_t t = prompt; t < ids.size(1); ++t) {
      EXPECT_LE(largest_difference(imported.logits(ids.narrow(1, t, 1), &cache), whole.narrow(1, t, 1)), 1e-12) << t;
    }
    if (!expected.contains("mla")) continue;
    const auto shapes = expected.at("mla").at("cache_shapes_layer0").get<std::vector<std::vector<std::int64_t>>>();
    EXPECT_EQ(cache.layers[0].latent.seen().unsqueeze(1).sizes().vec(), shapes[0]);
    EXPECT_EQ(cache.layers[0].rope_key.seen().unsqueeze(1).sizes().vec(), shapes[1]);
    EXPECT_FALSE(cache.layers[0].key_scale.defined() || cache.layers[0].value_scale.defined());
  }
}

// transformers rounds norms, RoPE and softmax to float32 in its float64 run.
void expect_gradients(const HfFolder& folder, const Json& expected) {
  Imported imported(folder, Precision::fp64);
  const at::Tensor ids = expected_ids(expected);
  const double targets = static_cast<double>(ids.size(0) * (ids.size(1) - 1));
  imported.engine.clear_gradients();
  const auto loss = imported.model.loss(ids, {1.0 / targets, 0.0, 64}, imported.engine);
  EXPECT_NEAR(loss.loss.item<double>(), expected.at("loss").get<double>(), 1e-6);
  if (expected.contains("tokens_per_expert")) {
    std::vector<std::vector<std::int64_t>> counts;
    for (const LayerRouting& layer : loss.routing) {
      const std::int64_t* const first = layer.counts.const_data_ptr<std::int64_t>();
      counts.emplace_back(first, first + layer.counts.numel());
    }
    EXPECT_EQ(counts, expected.at("tokens_per_expert").get<std::vector<std::vector<std::int64_t>>>());
  }
  if (!expected.contains("grad_norms")) return;
  loss.loss.backward();
  std::map<std::string, at::Tensor> gradients;
  for (const Unit& unit : imported.model.units()) {
    for (const UnitParameter& p : unit.parameters) {
      if (p.tensor.grad().defined()) gradients[p.name] = p.tensor.grad().flatten();
    }
  }
  for (const HfRange& range : hf_ranges(folder.model())) {
    if (!expected.at("grad_norms").contains(range.tensor)) continue;  // a selection bias
    const double got = gradients.at(range.parameter).narrow(0, range.begin, range.count).norm().item<double>();
    const double want = expected.at("grad_norms").at(range.tensor).get<double>();
    EXPECT_LE(std::abs(got - want), 2e-5 * want + 1e-6) << range.tensor;
  }
}

void expect_rotary(const ModelConfig& model, const Json& mla) {
  const Rotary rotary = rotary_of(model);
  const auto frequencies = mla.at("inv_freq").get<std::vector<double>>();
  ASSERT_EQ(rotary.frequencies.size(), frequencies.size());
  for (std::size_t i = 0; i < frequencies.size(); ++i) EXPECT_NEAR(rotary.frequencies[i] / frequencies[i], 1.0, 1e-7);
  EXPECT_NEAR(rotary.table_factor, mla.at("factor_on_cos_sin").get<double>(), 1e-8);
  EXPECT_NEAR(rotary.softmax_scale, mla.at("softmax_scale").get<double>(), 1e-8);
}

// Each likely mistake, made on purpose, changes the logits as much as it did in transformers.
void expect_mistakes_show(const HfFolder& folder, const Json& expected) {
  const HfModel& right = folder.model();
  const at::Tensor ids = expected_ids(expected);
  const at::Tensor want = Imported(folder, Precision::fp64).logits(ids);
  const auto expect_change = [&](const char* mistake, const ModelConfig& config, const NormPlan& plan) {
    if (!expected.at("wrong_if").contains(mistake)) return;
    const double listed = expected.at("wrong_if").at(mistake).get<double>();
    const double change = largest_difference(Imported(folder, Precision::fp64, config, plan).logits(ids), want);
    EXPECT_NEAR(change / listed, 1.0, 6e-3) << mistake;
  };
  ModelConfig other = right.model;
  const bool adjacent = other.attention.rope_pairs == RopePairs::adjacent;
  other.attention.rope_pairs = adjacent ? RopePairs::halves : RopePairs::adjacent;
  expect_change("other_rope_pairing", other, right.plan);
  NormPlan eps = right.plan, none = right.plan;
  for (LayerPolicy& layer : eps.layers) layer.inner.q_latent.eps = layer.inner.kv_latent.eps = right.norm.eps;
  for (LayerPolicy& layer : none.layers) layer.inner.q_latent = layer.inner.kv_latent = {};
  expect_change("latent_norm_eps_from_config", right.model, eps);
  expect_change("no_latent_norms", right.model, none);
  other = right.model;
  other.rope.mscale_all_dim.reset();
  other.rope.attention_factor = 1.0;
  expect_change("no_mscale_in_softmax_scale", other, right.plan);
  other = right.model;
  other.moe.selection_bias = false;
  expect_change("no_selection_bias", other, right.plan);
  other = right.model;
  other.moe.groups = 1;
  other.moe.top_groups.reset();
  other.moe.group_score = GroupScore::max;
  expect_change("no_group_limit", other, right.plan);
  other = right.model;
  other.moe.routed_scale = 1.0;
  expect_change("no_routed_scaling_factor", other, right.plan);
}

void hf_case(const fs::path& path) {
  const Json expected = read_json(path / "expected.json", 1 << 22);
  const HfFolder folder(path);
  expect_tensors(folder.model(), expected);
  Imported exact(folder, Precision::fp64), rounded(folder, Precision::fp32);
  EXPECT_LE(largest_difference(exact.logits(expected_ids(expected)), expected_logits(expected)), 1e-5);
  EXPECT_LE(largest_difference(rounded.logits(expected_ids(expected)), expected_logits(expected)), 5e-5);
  expect_cached_decoding(exact, expected);
  expect_gradients(folder, expected);
  if (!expected.contains("mla")) return;
  expect_rotary(folder.model().model, expected.at("mla"));
  expect_mistakes_show(folder, expected);
}

const bool kRegistered = testing::announce([] { testing::register_folder_cases("HfFixtures", "hf", &hf_case); });

}  // namespace
}  // namespace norma
