// Latent attention besides its fixtures: counts, caches under every placement, invariances, YaRN, the initial draw.
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/model/cost.h"
#include "norma/model/init.h"

#include "../src/model/rotary.h"
#include "support/errors.h"
#include "support/tiny_model.h"

namespace norma {
namespace {

using testing::make_tiny_model;
using testing::tiny_ids;
using testing::tiny_latent_config;
using testing::TinyModel;

const char* const kEdited = "qkvc_post";  // a placement with every norm that latent attention has

NormConfig norm_config(const std::string& preset) {
  NormConfig config;
  config.preset = preset;
  config.mix_alpha = 0.5;
  return config;
}

TinyModel tiny_model(const RunConfig& config, const NormConfig& norm) {
  return make_tiny_model(config, testing::plan_of(norm, config.model));
}

// Moves gains away from 1, so that a gain in the wrong place shows.
void stir_gains(const TinyModel& m) {
  const c10::NoGradGuard no_grad;
  for (const Unit& unit : m.model->units()) {
    for (const UnitParameter& p : unit.parameters) {
      if (p.tensor.dim() == 1) p.tensor.add_(at::sin(at::arange(1, p.tensor.numel() + 1, at::kDouble)) * 0.3);
    }
  }
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

ModelConfig deepseek(std::int64_t d, std::int64_t heads, std::int64_t q_rank, std::int64_t kv_rank, std::int64_t nope,
                     std::int64_t rope, std::int64_t value) {
  ModelConfig model;
  model.d_model = d;
  model.num_layers = 1;
  model.num_heads = heads;
  model.attention = {AttentionKind::mla, {}, kv_rank, nope, rope, value, RopePairs::adjacent};
  if (q_rank > 0) model.attention.q_rank = q_rank;
  return model;
}

// What the attention of one layer holds, its own latent norms included.
std::int64_t attention_parameters(const ModelConfig& model) {
  const NormPlan plan = testing::plan_of(norm_config("post"), model);  // no other norm inside attention
  std::int64_t sum = 0;
  for (const UnitSpec& unit : model_parameters(model, plan)) {
    for (const ParameterSpec& p : unit.parameters) {
      const bool inside =
          p.name.find(".attention.") != std::string::npos && p.name.find("norm_sum") == std::string::npos;
      if (inside) sum += p.numel();
    }
  }
  return sum;
}

TEST(LatentParameters, CountsAreDeepSeeks) {
  EXPECT_EQ(attention_parameters(deepseek(7168, 128, 1536, 512, 128, 64, 128)), 187'107'328);  // V3
  EXPECT_EQ(attention_parameters(deepseek(5120, 128, 1536, 512, 128, 64, 128)), 149'227'520);  // V2
  EXPECT_EQ(attention_parameters(deepseek(2048, 16, 0, 512, 128, 64, 128)), 13'763'072);       // V2-Lite
  EXPECT_EQ(attention_parameters(deepseek(48, 4, 24, 16, 8, 4, 12)), 6'888);
  EXPECT_EQ(attention_parameters(deepseek(48, 4, 0, 16, 8, 4, 12)), 6'864);
}

TEST(LatentCost, CountsFlopsAndTheCache) {
  ModelConfig model = deepseek(7168, 128, 1536, 512, 128, 64, 128);
  model.num_layers = 61;
  const NormPlan pre = testing::plan_of(norm_config("pre"), model);
  const NormPlan hybrid = testing::plan_of(norm_config("hybrid"), model);
  EXPECT_EQ(cache_bytes_per_token(model, pre, Precision::bf16), 61 * 576 * 2);
  EXPECT_EQ(cache_bytes_per_token(model, hybrid, Precision::bf16), 61 * (576 * 2 + 2 * 128 * 4));
  const ModelCost cost = model_cost(model, pre);
  const double scores = 61.0 * 128.0 * (192.0 + 128.0) * static_cast<double>(model.sequence_length);
  EXPECT_DOUBLE_EQ(cost.flops_full - cost.flops_causal, 3.0 * scores);
  ModelConfig grouped;
  EXPECT_EQ(cache_bytes_per_token(grouped, testing::plan_of(norm_config("pre"), grouped), Precision::fp32),
            6 * 2 * 256 * 4);
}

TEST(LatentParameters, ModuleAndSpecificationAgreeForEveryPreset) {
  for (const std::string& preset : preset_names()) {
    if (preset == "olmo2" || preset == "olmoe") continue;  // refused, see below
    for (const std::int64_t q_rank : {0, 24}) {
      const RunConfig config = tiny_latent_config(4, q_rank);
      const TinyModel m = tiny_model(config, norm_config(preset));  // checks names and shapes
      std::int64_t count = 0;
      for (const Unit& unit : m.model->units()) {
        for (const UnitParameter& parameter : unit.parameters) count += parameter.tensor.numel();
      }
      EXPECT_EQ(count, model_cost(config.model, m.plan).parameters) << preset;
    }
  }
}

// Absorbed decoding, token by token, against the expanded forward of the whole.
void expect_cache_equals_forward(const RunConfig& config, const NormConfig& norm, const std::string& what) {
  const TinyModel m = tiny_model(config, norm);
  stir_gains(m);
  const at::Tensor whole = m.logits(tiny_ids());
  const c10::NoGradGuard no_grad;
  for (const std::int64_t prompt : {1, 9}) {
    DecodeCache cache;
    at::Tensor step = m.model->logits(tiny_ids().narrow(1, 0, prompt), *m.engine, &cache);
    EXPECT_LE(largest_difference(step, whole.narrow(1, 0, prompt)), 1e-12) << what;
    for (std::int64_t t = prompt, n = 3; t < 16; t += n, n = 1) {  // several at once, then one by one
      step = m.model->logits(tiny_ids().narrow(1, t, n), *m.engine, &cache);
      EXPECT_LE(largest_difference(step, whole.narrow(1, t, n)), 1e-12) << what << " at " << t;
    }
    std::int64_t bytes = 0;
    for (const LayerCache& layer : cache.layers) bytes += layer.bytes();
    EXPECT_EQ(bytes, 2 * 16 * cache_bytes_per_token(config.model, m.plan, config.precision)) << what;
  }
}

TEST(LatentCache, DecodingEqualsTheWholeForwardUnderEveryPlacement) {
  for (const char* preset : {"pre", "post", "qk", "kv", "hybrid_star", "qkvc_post", "pre_kc", "deep", "span"}) {
    for (const std::int64_t q_rank : {0, 24}) {
      expect_cache_equals_forward(tiny_latent_config(3, q_rank), norm_config(preset), cat(preset, " rank ", q_rank));
    }
  }
}

TEST(LatentCache, DecodingEqualsTheWholeForwardAfterEdits) {
  NormConfig norm = norm_config("hybrid");
  LayerEdit& all = norm.layers["all"];
  all.inner.rope_key.kind = NormKind::none;  // k norms the whole key
  expect_cache_equals_forward(tiny_latent_config(2), norm, "whole key");
  all.inner.v.granularity = all.inner.q.granularity = Granularity::whole;
  all.inner.context.kind = NormKind::layer;
  all.inner.context.granularity = Granularity::whole;
  expect_cache_equals_forward(tiny_latent_config(2), norm, "whole projections");
  norm = norm_config(kEdited);
  norm.layers["0"].inner.kv_latent.kind = NormKind::none;
  norm.layers["1"].inner.q_latent.kind = NormKind::layer;
  RunConfig config = tiny_latent_config(2);
  config.model.attention.rope_pairs = RopePairs::adjacent;
  config.model.attention.value_dim = 20;  // wider than a key
  config.model.rope.scaling = RopeScaling::yarn;
  config.model.rope.factor = 4.0;
  config.model.rope.original_length = 8;
  config.model.rope.mscale_all_dim = 1.0;  // factors on the table and on the scale
  config.model.document_separator = tiny_ids()[0][11].item<std::int64_t>();
  expect_cache_equals_forward(config, norm, "adjacent pairs, yarn, documents");
}

// HybridNorm on latent attention sees directions only. The logits of one layer whose skip is cut off are a function of
// attention's output; each token's embedding is then made longer or shorter.
TEST(LatentInvariance, HybridAttentionIgnoresTheLengthOfItsInput) {
  const auto change = [](const std::string& preset, bool norms_shared_key, std::int64_t q_rank) {
    RunConfig config = tiny_latent_config(1, q_rank);
    config.model.tie_embeddings = false;
    NormPlan plan = testing::plan_of(norm_config(preset), config.model);
    LayerPolicy& layer = plan.layers[0];
    layer.attention.alpha = 0.0;
    if (!norms_shared_key) layer.inner.rope_key = {};
    visit_inner_sites([](const SiteInfo&, NormSite& site) { site.eps = 0.0; }, layer.inner);
    const TinyModel m = make_tiny_model(config, plan);
    const at::Tensor before = m.logits(tiny_ids());
    const c10::NoGradGuard no_grad;
    m.parameter("embedding.weight").mul_(at::exp(at::sin(at::arange(64, at::kDouble) * 1.7)).unsqueeze(1));
    return largest_difference(before, m.logits(tiny_ids()));
  };
  for (const char* preset : {"hybrid", "qkv", "qkvc_post"}) {
    for (const std::int64_t q_rank : {0, 24}) EXPECT_LE(change(preset, true, q_rank), 1e-11) << preset;
  }
  EXPECT_GT(change("hybrid", false, 24), 1e-4) << "without a norm on the shared key its share drifts";
  EXPECT_LE(change("kv", true, 24), 1e-11) << "the latent's norm is enough for queries";
  EXPECT_GT(change("kv", true, 0), 1e-4);
}

TEST(LatentAttention, EverySiteCounts) {
  const RunConfig config = tiny_latent_config(2);
  const TinyModel m = tiny_model(config, norm_config(kEdited));
  const auto expect_change = [&](const SiteInfo& info, const NormSite&) {
    const at::Tensor before = m.logits(tiny_ids());
    const c10::NoGradGuard no_grad;
    m.parameter(cat("blocks.1.attention.norm_", info.name, ".weight")).select(0, 1).mul_(1.5);
    EXPECT_GT(largest_difference(before, m.logits(tiny_ids())), 1e-9) << info.name;
  };
  visit_inner_sites(expect_change, m.plan.layers[1].inner);
}

// Adjacent pairs and halves are the same model with rows in another order.
TEST(LatentAttention, AdjacentPairsAreHalvesWithPermutedRows) {
  RunConfig config = tiny_latent_config(2);
  config.model.attention.rope_dim = 8;
  const TinyModel halves = tiny_model(config, norm_config("pre"));
  config.model.attention.rope_pairs = RopePairs::adjacent;
  const TinyModel adjacent = tiny_model(config, norm_config("pre"));
  const at::Tensor order =
      at::tensor({0, 2, 4, 6, 1, 3, 5, 7}, at::kLong);  // half-split row j is adjacent row order[j]
  const c10::NoGradGuard no_grad;
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    at::Tensor q = halves.parameter(block + "attention.q_up.weight").view({4, 16, -1}).narrow(1, 8, 8);
    q.copy_(q.index_select(1, order));
    at::Tensor k = halves.parameter(block + "attention.kv_down.weight").narrow(0, 16, 8);
    k.copy_(k.index_select(0, order));
  }
  EXPECT_LE(largest_difference(halves.logits(tiny_ids()), adjacent.logits(tiny_ids())), 1e-12);
}

TEST(Rotary, YarnHasItsFactors) {
  ModelConfig model = deepseek(48, 4, 24, 16, 8, 8, 12);
  EXPECT_DOUBLE_EQ(rotary_of(model).softmax_scale, 0.25);
  model.rope.scaling = RopeScaling::yarn;
  model.rope.factor = 40.0;
  model.rope.original_length = 64;
  const double m1 = 0.1 * std::log(40.0) + 1.0, half = 0.05 * std::log(40.0) + 1.0;
  EXPECT_DOUBLE_EQ(rotary_of(model).table_factor, m1);
  EXPECT_DOUBLE_EQ(rotary_of(model).softmax_scale, 0.25);
  model.rope.mscale_all_dim = 0.5;
  EXPECT_DOUBLE_EQ(rotary_of(model).table_factor, m1);
  EXPECT_DOUBLE_EQ(rotary_of(model).softmax_scale, 0.25 * half * half);
  model.rope.mscale = 1.0;
  EXPECT_DOUBLE_EQ(rotary_of(model).table_factor, m1 / half);
  model.rope.attention_factor = 1.25;
  EXPECT_DOUBLE_EQ(rotary_of(model).table_factor, 1.25);
  model.rope.factor = 1.0;
  model.rope.attention_factor.reset();
  EXPECT_DOUBLE_EQ(rotary_of(model).table_factor, 1.0);
  EXPECT_DOUBLE_EQ(rotary_of(model).softmax_scale, 0.25);
}

TEST(LatentInit, EachMatrixHasItsFanAndDeepNormScalesValueRowsOnly) {
  RunConfig config = tiny_latent_config(4);
  config.init.scheme = InitScheme::xavier;
  config.init.cutoff = 0.0;
  const TinyModel deep = tiny_model(config, norm_config("deep"));
  const TinyModel post = tiny_model(config, norm_config("post"));
  const double beta = std::pow(32.0, -0.25);
  const auto heads = [](const TinyModel& m) {
    return m.parameter("blocks.1.attention.kv_up.weight").view({4, 20, 16});
  };
  const auto ratio = [](const at::Tensor& a, const at::Tensor& b) { return (a.norm() / b.norm()).item<double>(); };
  EXPECT_NEAR(ratio(heads(deep).narrow(1, 0, 8), heads(post).narrow(1, 0, 8)), 1.0, 1e-12);
  EXPECT_NEAR(ratio(heads(deep).narrow(1, 8, 12), heads(post).narrow(1, 8, 12)), beta, 1e-12);
  for (const auto& [name, want] : {std::pair{"out", beta}, {"q_down", 1.0}, {"q_up", 1.0}, {"kv_down", 1.0}}) {
    const std::string full = cat("blocks.1.attention.", name, ".weight");
    EXPECT_NEAR(ratio(deep.parameter(full), post.parameter(full)), want, 1e-12) << name;
  }
  const ParameterSpec kv_up{"", {80, 16}, ParameterRole::kv_up, 1};
  const std::vector<InitPiece> pieces = init_pieces(kv_up, config.model, post.plan, config.init);
  ASSERT_EQ(pieces.size(), 8u);
  EXPECT_DOUBLE_EQ(pieces[2].std, std::sqrt(2.0 / (16 + 4 * 8)));
  EXPECT_DOUBLE_EQ(pieces[3].std, std::sqrt(2.0 / (16 + 4 * 12)));
  const ParameterSpec kv_down{"", {20, 32}, ParameterRole::kv_down, 1};
  EXPECT_DOUBLE_EQ(init_pieces(kv_down, config.model, post.plan, config.init)[1].std, std::sqrt(2.0 / (32 + 4)));
}

TEST(LatentPlan, PlacesTheSitesOfLatentAttention) {
  const ModelConfig model = tiny_latent_config(2).model;
  const auto inner = [&](const char* preset) { return testing::plan_of(norm_config(preset), model).layers[0].inner; };
  EXPECT_EQ(inner("pre").kv_latent, (NormSite{NormKind::rms, 1e-6, 1.0}));
  EXPECT_EQ(inner("pre").q_latent, (NormSite{NormKind::rms, 1e-6, 1.0}));
  EXPECT_FALSE(inner("pre").rope_key.present());
  EXPECT_FALSE(inner("qk").rope_key.present());
  const auto width = [&](SiteInput input, const char* preset) { return site_shape(input, inner(preset), model).width; };
  EXPECT_EQ(width(SiteInput::k, "qk"), 12);  // both parts of a key
  for (const char* preset : {"hybrid", "hybrid_star", "qk_pre", "pre_qkv", "kc"}) {
    EXPECT_TRUE(inner(preset).rope_key.present()) << preset;
    EXPECT_EQ(width(SiteInput::k, preset), 8) << preset;
  }
  EXPECT_EQ(width(SiteInput::q, "qkvc_post"), 12);
  EXPECT_EQ(width(SiteInput::v, "qkvc_post"), 12);
  EXPECT_EQ(width(SiteInput::rope_key, "qkvc_post"), 4);
  EXPECT_FALSE(testing::plan_of(norm_config("pre"), tiny_latent_config(2, 0).model).layers[0].inner.q_latent.present());
  const std::string table = to_table(testing::plan_of(norm_config("hybrid"), model));
  EXPECT_TRUE(testing::contains(table, "q_latent kv_latent rope_key q k v"));
}

std::string only_problem(const NormConfig& norm, const ModelConfig& model) {
  Problems problems;
  make_norm_plan(norm, model, problems);
  EXPECT_EQ(problems.size(), 1u);
  return problems.empty() ? "" : problems[0].key + ": " + problems[0].text;
}

TEST(LatentPlan, RefusesWhatHasNoMeaning) {
  const ModelConfig latent = tiny_latent_config(2).model, no_rank = tiny_latent_config(2, 0).model;
  const ModelConfig grouped = testing::tiny_config(2).model;
  EXPECT_TRUE(testing::contains(only_problem(norm_config("olmo2"), latent), "one rotated key is shared"));
  NormConfig norm = norm_config("olmo2");
  norm.layers["all"].inner.k.granularity = Granularity::per_head;
  Problems problems;
  make_norm_plan(norm, latent, problems);
  EXPECT_TRUE(problems.empty());
  norm = norm_config("hybrid");
  norm.kind = NormKind::layer;
  EXPECT_TRUE(testing::contains(only_problem(norm, latent), "a mean is none"));
  norm = norm_config("pre");
  norm.layers["0"].inner.rope_key.kind = NormKind::rms;
  EXPECT_TRUE(testing::contains(only_problem(norm, grouped), "norm.layers.0.inner.rope_key: is a site of latent"));
  norm.layers["0"].inner = {};
  norm.layers["0"].inner.q_latent.kind = NormKind::none;
  EXPECT_TRUE(testing::contains(only_problem(norm, no_rank), "model.attention.q_rank"));
}

}  // namespace
}  // namespace norma
