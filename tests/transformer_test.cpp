// The model apart from parity: counts of the shipped configs, the initial draw, caches, documents, precision,
// evaluation.
#include <cmath>
#include <fstream>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/config/yaml.h"
#include "norma/eval/generate.h"
#include "norma/eval/perplexity.h"
#include "norma/model/cost.h"
#include "norma/model/init.h"

#include "support/fixtures.h"
#include "support/tiny_model.h"

namespace norma {
namespace {

using testing::make_tiny_model;
using testing::preset_plan;
using testing::tiny_config;
using testing::tiny_ids;
using testing::TinyModel;

ModelCost cost_of(const std::string& config, const std::vector<std::string>& overrides) {
  const LoadedConfig loaded = load_config(cat(NORMA_SOURCE_DIR, "/configs/", config, ".yaml"), overrides);
  EXPECT_TRUE(loaded.problems.empty()) << config;
  return model_cost(loaded.config.model, testing::plan_of(loaded.config.norm, loaded.config.model.num_layers));
}

std::int64_t parameters_of(const std::string& config, const std::vector<std::string>& overrides) {
  return cost_of(config, overrides).parameters;
}

TEST(Parameters, CountsOfThePapersModelsAreExact) {
  const std::tuple<const char*, const char*, std::int64_t> rows[] = {
      {"151m", "hybrid_star", 151'400'640},
      {"151m", "pre", 151'407'360},
      {"285m", "hybrid_star", 285'229'312},
      {"285m", "pre", 285'238'272},
      {"550m", "hybrid_star", 550'534'656},
      {"550m", "pre", 550'553'088},
      {"550m", "qk", 550'556'160},
      {"550m", "hybrid", 550'533'120},
      {"550m", "olmo2", 550'583'808},
      {"543m-29-layers", "hybrid_star", 543'723'968},
      {"543m-29-layers", "pre", 543'747'072},
      {"1.2b", "pre", 1'178'667'008},
      {"1.2b", "qk", 1'178'669'056},
      {"1.2b", "hybrid", 1'178'637'312},
      {"1.2b", "hybrid_star", 1'178'639'360},
      {"1.2b", "olmo2", 1'178'707'968},
      {"1.2b-paper", "hybrid_star", 1'276'943'360},
      {"1.2b-paper", "pre", 1'276'971'008},
      {"7b", "hybrid_star", 7'298'240'512},
      {"moe-1b-7b", "hybrid", 6'919'069'696},
      {"moe-1b-7b", "hybrid_star", 6'919'071'744},
      {"moe-1b-7b", "pre", 6'919'096'320},
      {"moe-1b-7b", "olmoe", 6'919'161'856},
  };
  for (const auto& [config, preset, count] : rows) {
    EXPECT_EQ(parameters_of(config, {cat("norm.preset=", preset)}), count) << config << " " << preset;
  }
  EXPECT_EQ(parameters_of("7b", {"norm.layers.all.attention.out={kind: rms, gain_init: 0.125}"}), 7'298'371'584);
}

TEST(Parameters, ActiveCountsOfMixturesAreExact) {
  const std::pair<const char*, std::int64_t> rows[] = {
      {"hybrid", 1'281'925'120}, {"hybrid_star", 1'281'927'168}, {"pre", 1'281'951'744}, {"olmoe", 1'282'017'280}};
  for (const auto& [preset, count] : rows) {
    const ModelCost cost = cost_of("moe-1b-7b", {cat("norm.preset=", preset)});
    EXPECT_EQ(cost.active_parameters, count) << preset;
    EXPECT_EQ(cost.used_parameters, count - 50304 * 2048) << preset;
  }
  const ModelCost dense = cost_of("tiny", {});
  EXPECT_EQ(dense.active_parameters, dense.parameters);
}

TEST(Parameters, ModuleAndSpecificationAgreeForEveryPreset) {
  for (const std::string& preset : preset_names()) {
    const TinyModel m = make_tiny_model(tiny_config(4), preset_plan(preset, 4, 1e-5));  // checks names and shapes
    std::int64_t count = 0;
    for (const Unit& unit : m.model->units()) {
      for (const UnitParameter& parameter : unit.parameters) count += parameter.tensor.numel();
    }
    EXPECT_EQ(count, model_cost(m.config.model, m.plan).parameters) << preset;
  }
}

TEST(InitialWeights, AreTheSameDrawUnderEveryPlacement) {
  const RunConfig config = tiny_config(4);
  const TinyModel pre = make_tiny_model(config, preset_plan("pre", 4, 1e-5));
  const TinyModel star = make_tiny_model(config, preset_plan("hybrid_star", 4, 1e-5));
  for (const char* name : {"embedding.weight", "blocks.2.attention.qkv.weight", "blocks.3.mlp.down.weight"}) {
    EXPECT_TRUE(at::equal(pre.parameter(name), star.parameter(name))) << name;
  }
  RunConfig other = config;
  other.run.seed = 1;
  EXPECT_FALSE(
      at::equal(make_tiny_model(other, pre.plan).parameter("embedding.weight"), pre.parameter("embedding.weight")));
}

TEST(InitialWeights, AnyRangeCanBeDrawnAlone) {
  const std::vector<InitPiece> pieces = {{0, 50, 0.5, 0.0}, {50, 90, 0.02, 0.0}};
  std::vector<double> whole(90), part(30);
  draw_weights("w", pieces, 3.0, 7, 0, 90, whole.data());
  draw_weights("w", pieces, 3.0, 7, 40, 30, part.data());
  for (std::size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], whole[40 + i]);
}

// Standard deviations of a model wide enough to measure them. Truncation at 3 leaves 0.98658 of the std.
TEST(InitialWeights, FollowTheirScheme) {
  RunConfig config = tiny_config(2);
  config.model.d_model = 128;
  config.model.mlp_dim = 256;
  config.model.tie_embeddings = false;
  const double base = std::sqrt(2.0 / (5.0 * 128)), depth = std::sqrt(4.0);
  struct Row {
    InitScheme scheme;
    double qkv, out, down_of_layer_1, embedding, head;
  };
  const double fan = 1.0 / std::sqrt(128.0);
  const Row rows[] = {
      {InitScheme::normal, base, base, base, base, base},
      {InitScheme::megatron, base, base / depth, base / depth, base, fan},
      {InitScheme::depth_scaled, base, base / std::sqrt(2.0), base / 2.0, base, base},
      {InitScheme::mitchell, fan, 1 / std::sqrt(2.0 * 128), 1 / std::sqrt(2.0 * 256 * 2), fan, fan},
      {InitScheme::xavier, std::sqrt(2.0 / 256), std::sqrt(2.0 / 256), std::sqrt(2.0 / (256 + 128)), base, fan},
  };
  for (const Row& row : rows) {
    config.init.scheme = row.scheme;
    const TinyModel m = make_tiny_model(config, preset_plan("pre", 2, 1e-5));
    const auto std_of = [&](const std::string& name, std::int64_t rows_used) {
      return m.parameter(name).narrow(0, 0, rows_used).square().mean().sqrt().item<double>() / 0.98658;
    };
    EXPECT_NEAR(std_of("blocks.0.attention.qkv.weight", 128) / row.qkv, 1.0, 0.03);
    EXPECT_NEAR(std_of("blocks.0.attention.out.weight", 128) / row.out, 1.0, 0.03);
    EXPECT_NEAR(std_of("blocks.1.mlp.down.weight", 128) / row.down_of_layer_1, 1.0, 0.03);
    EXPECT_NEAR(std_of("embedding.weight", 64) / row.embedding, 1.0, 0.04);
    EXPECT_NEAR(std_of("head.weight", 64) / row.head, 1.0, 0.04);
  }
}

TEST(InitialWeights, DeepNormScalesTheValuePathOnly) {
  RunConfig config = tiny_config(4);
  config.init.scheme = InitScheme::xavier;
  NormConfig norm;
  norm.preset = "deep";
  for (const DeepnormFfn ffn : {DeepnormFfn::all, DeepnormFfn::up_down}) {
    norm.deepnorm_ffn = ffn;
    const TinyModel deep = make_tiny_model(config, testing::plan_of(norm, 4));
    const TinyModel post = make_tiny_model(config, preset_plan("post", 4, 1e-5));
    const double beta = std::pow(32.0, -0.25);
    const auto ratio = [&](const std::string& name, std::int64_t begin, std::int64_t rows) {
      const at::Tensor a = deep.parameter(name).narrow(0, begin, rows), b = post.parameter(name).narrow(0, begin, rows);
      return (a.norm() / b.norm()).item<double>();
    };
    EXPECT_NEAR(ratio("blocks.1.attention.qkv.weight", 0, 48), 1.0, 1e-12);    // q and k
    EXPECT_NEAR(ratio("blocks.1.attention.qkv.weight", 48, 16), beta, 1e-12);  // v
    EXPECT_NEAR(ratio("blocks.1.attention.out.weight", 0, 32), beta, 1e-12);
    EXPECT_NEAR(ratio("blocks.1.mlp.up_gate.weight", 0, 48), beta, 1e-12);  // up
    EXPECT_NEAR(ratio("blocks.1.mlp.up_gate.weight", 48, 48), ffn == DeepnormFfn::all ? beta : 1.0, 1e-12);
    EXPECT_NEAR(ratio("blocks.1.mlp.down.weight", 0, 32), beta, 1e-12);
  }
}

TEST(Transformer, CacheEqualsTheWholeForward) {
  for (const char* preset : {"hybrid_star", "olmo2", "qkvc_post"}) {
    RunConfig config = tiny_config(3);
    if (preset == std::string("olmo2")) config.model.document_separator = tiny_ids()[0][11].item<std::int64_t>();
    const TinyModel m = make_tiny_model(config, preset_plan(preset, 3, 1e-5));
    const at::Tensor whole = m.logits(tiny_ids());
    const c10::NoGradGuard no_grad;
    DecodeCache cache;
    at::Tensor step = m.model->logits(tiny_ids().narrow(1, 0, 9), *m.engine, &cache);
    EXPECT_TRUE(at::allclose(step, whole.narrow(1, 0, 9), 0, 1e-12)) << preset;
    for (std::int64_t t = 9, n = 3; t < 16; t += n, n = 1) {  // several at once, then one by one
      step = m.model->logits(tiny_ids().narrow(1, t, n), *m.engine, &cache);
      EXPECT_TRUE(at::allclose(step, whole.narrow(1, t, n), 0, 1e-12)) << preset << " at " << t;
    }
  }
}

TEST(Transformer, TheFutureAndOtherDocumentsAreInvisible) {
  RunConfig config = tiny_config(2);
  const at::Tensor ids = tiny_ids();
  at::Tensor changed = ids.clone();
  changed.narrow(1, 10, 6).add_(1).remainder_(61);
  const TinyModel causal = make_tiny_model(config, preset_plan("hybrid", 2, 1e-5));
  EXPECT_TRUE(at::equal(causal.logits(ids).narrow(1, 0, 10), causal.logits(changed).narrow(1, 0, 10)));

  config.model.document_separator = 60;
  const TinyModel masked = make_tiny_model(config, preset_plan("hybrid", 2, 1e-5));
  at::Tensor first = ids.clone(), second = ids.clone();
  first.select(1, 7).fill_(60);
  second.select(1, 7).fill_(60);
  second.narrow(1, 0, 7).add_(1).remainder_(60);  // another first document
  const at::Tensor a = masked.logits(first), b = masked.logits(second);
  EXPECT_TRUE(at::allclose(a.narrow(1, 8, 8), b.narrow(1, 8, 8), 0, 1e-12));
  EXPECT_FALSE(at::allclose(a.narrow(1, 0, 8), b.narrow(1, 0, 8), 0, 1e-6));
}

TEST(Transformer, ClipQkvClampsTheProjection) {
  RunConfig config = tiny_config(2);
  config.model.clip_qkv = 1e-3;
  const TinyModel clipped = make_tiny_model(config, preset_plan("pre", 2, 1e-5));
  const TinyModel free = make_tiny_model(tiny_config(2), preset_plan("pre", 2, 1e-5));
  EXPECT_GT((clipped.logits(tiny_ids()) - free.logits(tiny_ids())).abs().max().item<double>(), 1e-6);
  config.model.clip_qkv = 1e3;  // beyond every value: no effect
  const TinyModel wide = make_tiny_model(config, preset_plan("pre", 2, 1e-5));
  EXPECT_TRUE(at::equal(wide.logits(tiny_ids()), free.logits(tiny_ids())));
}

TEST(Transformer, LowerPrecisionsStayNearFloat64) {
  RunConfig config = tiny_config(3);
  const NormPlan plan = preset_plan("hybrid_star", 3, 1e-5);
  const TinyModel exact = make_tiny_model(config, plan);
  exact.backward(tiny_ids());
  for (const auto& [precision, tolerance] : {std::pair{Precision::fp32, 1e-5}, std::pair{Precision::bf16, 5e-2}}) {
    config.precision = precision;
    const TinyModel m = make_tiny_model(config, plan);
    m.backward(tiny_ids());
    for (std::size_t u = 0; u < m.engine->flat_units().size(); ++u) {
      const at::Tensor got = m.engine->flat_units()[u].gradient, want = exact.engine->flat_units()[u].gradient;
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LE((got.to(at::kDouble) - want).norm().item<double>(), tolerance * want.norm().item<double>()) << u;
    }
  }
}

// Micro-batches add up in fp32 even when the model computes in bf16, in place and without new gradient tensors.
TEST(ShardEngine, GradientsAccumulateInPlaceInFloat32) {
  RunConfig config = tiny_config(2);
  config.precision = Precision::bf16;
  const TinyModel m = make_tiny_model(config, preset_plan("hybrid", 2, 1e-5));
  const at::Tensor leaf = m.parameter("blocks.1.mlp.down.weight");
  EXPECT_EQ(leaf.scalar_type(), at::kBFloat16);
  const void* const address = leaf.grad().const_data_ptr();
  m.backward(tiny_ids());
  const at::Tensor once = leaf.grad().clone();
  EXPECT_EQ(once.scalar_type(), at::kFloat);
  for (int i = 0; i < 2; ++i) m.model->loss(tiny_ids(), {1.0 / 32, 0.0, 64}, *m.engine).loss.backward();
  EXPECT_EQ(leaf.grad().const_data_ptr(), address);
  EXPECT_TRUE(at::allclose(leaf.grad(), once * 3.0, 1e-6, 1e-9));
}

TEST(Perplexity, IsTheMeanOverInstancesOfTheMeanOverTargets) {
  const TinyModel m = make_tiny_model(tiny_config(2), preset_plan("pre", 2, 1e-5));
  const testing::TemporaryFolder folder;
  const fs::path file = folder.path() / "v.npy";
  std::ofstream out(file, std::ios::binary);
  const at::Tensor ids = at::cat({tiny_ids(), (tiny_ids() + 5) % 61}).to(at::kInt).contiguous();  // 4 instances of 16
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    const auto id = static_cast<std::uint16_t>(ids.const_data_ptr<int>()[i]);
    out.write(reinterpret_cast<const char*>(&id), sizeof id);
  }
  out.close();
  const TokenDataset dataset({{file.string()}, TokenDtype::uint16, 16, 64, "data.paths"});
  const c10::NoGradGuard no_grad;
  const at::Tensor logits = m.logits(ids.to(at::kLong)).narrow(1, 0, 15);
  const at::Tensor want = at::cross_entropy_loss(logits.flatten(0, 1), ids.to(at::kLong).narrow(1, 1, 15).flatten());
  for (const std::int64_t batch : {1, 3, 4}) {
    PerplexityOptions options;
    options.batch_size = batch;
    NoPeers alone;
    const Perplexity got = evaluate_perplexity(*m.model, *m.engine, dataset, alone, options);
    EXPECT_NEAR(got.cross_entropy, want.item<double>(), 1e-12);
    EXPECT_EQ(got.instances, 4);
    EXPECT_NEAR(got.perplexity(), std::exp(want.item<double>()), 1e-9);
  }
}

TEST(Generate, SamplesFromTheAllowedTokens) {
  const at::Tensor logits = at::tensor({1.0, 4.0, 3.0, 2.0, 9.0}, at::kDouble);
  GenerateOptions options;
  options.vocab_size = 4;  // id 4 is padding
  options.temperature = 0.0;
  EXPECT_EQ(sample_token(logits, options, 0, 0), 1);
  options.temperature = 1.0;
  options.top_k = 2;
  std::vector<int> seen(5, 0);
  for (std::uint64_t i = 0; i < 2000; ++i) ++seen[static_cast<std::size_t>(sample_token(logits, options, 0, i))];
  EXPECT_EQ(seen[0] + seen[3] + seen[4], 0);
  EXPECT_NEAR(seen[1] / 2000.0, 1.0 / (1.0 + std::exp(-1.0)), 0.04);
  options.top_k = 0;
  options.top_p = 0.5;
  for (std::uint64_t i = 0; i < 50; ++i) EXPECT_EQ(sample_token(logits, options, 0, i), 1);
  EXPECT_THROW(sample_token(at::full({5}, NAN), options, 0, 0), DivergedError);
}

TEST(Generate, RepeatsWithItsSeedAndStopsAtTheLongestContext) {
  const TinyModel m = make_tiny_model(tiny_config(2), preset_plan("hybrid_star", 2, 1e-5));
  GenerateOptions options;
  options.vocab_size = 61;
  options.max_tokens = 100;
  const auto a = generate(*m.model, *m.engine, {{1, 2, 3}}, options);
  EXPECT_EQ(a.at(0).size(), 13u);
  EXPECT_EQ(a, generate(*m.model, *m.engine, {{1, 2, 3}}, options));
  options.seed = 9;
  EXPECT_NE(a, generate(*m.model, *m.engine, {{1, 2, 3}}, options));
}

}  // namespace
}  // namespace norma
