// What follows for the placements from their equations, with eps = 0 and gains of 1.
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/kernels/ops.h"

#include "support/tiny_model.h"

namespace norma {
namespace {

using testing::make_tiny_model;
using testing::preset_plan;
using testing::tiny_config;
using testing::tiny_ids;
using testing::TinyModel;

constexpr std::int64_t kLayers = 3;

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

at::Tensor token_rms(const at::Tensor& x) {  // [B, T, D] -> [B, T]
  return x.square().mean(-1).sqrt();
}

double rms_error(const at::Tensor& x) {
  return (token_rms(x) - 1.0).abs().max().item<double>();
}

TinyModel with_preset(const std::string& preset, double eps = 0.0, const RunConfig& config = tiny_config(kLayers)) {
  return make_tiny_model(config, preset_plan(preset, config.model.num_layers, eps));
}

void scale_rows(const TinyModel& m, const std::string& name, std::int64_t begin, std::int64_t rows, double factor) {
  const c10::NoGradGuard no_grad;
  m.parameter(name).narrow(0, begin, rows).mul_(factor);
}

void scale_outputs(const TinyModel& m, double factor, bool attention = true, bool mlp = true) {
  const c10::NoGradGuard no_grad;
  for (std::int64_t l = 0; l < m.config.model.num_layers; ++l) {
    if (attention) m.parameter(cat("blocks.", l, ".attention.out.weight")).mul_(factor);
    if (mlp) m.parameter(cat("blocks.", l, ".mlp.down.weight")).mul_(factor);
  }
}

at::Tensor rms_normed(const at::Tensor& x) {
  return x / token_rms(x).unsqueeze(-1);
}

// Where a norm is applied to the sum, every block's output has RMS 1; HybridNorm's output has sqrt(1 + var FFN).
TEST(Invariants, BlockOutputsHaveUnitRms) {
  for (const char* preset : {"post", "deep", "span"}) {
    const std::vector<at::Tensor> stream = with_preset(preset).stream(tiny_ids());
    for (std::size_t l = 1; l < stream.size(); ++l) EXPECT_LT(rms_error(stream[l]), 1e-14) << preset << " " << l;
  }
  RunConfig config = tiny_config(8);
  config.model.d_model = 128;
  config.model.mlp_dim = 344;
  const TinyModel hybrid = with_preset("hybrid", 0.0, config);
  const std::vector<at::Tensor> stream = hybrid.stream(tiny_ids());
  for (std::size_t l = 1; l < stream.size(); ++l) {
    const double mean = token_rms(stream[l]).mean().item<double>();
    EXPECT_GT(mean, 1.0);
    EXPECT_LT(mean, 1.01);
  }
  scale_outputs(hybrid, 0.0, false, true);  // all that is left of the block is the MLP's normed input
  EXPECT_LT(rms_error(hybrid.stream(tiny_ids()).back()), 1e-14);
}

// Normed q, k and v do not depend on the scale of their input, so a norm before them changes nothing.
TEST(Invariants, QkvNormMakesTheInputNormRedundant) {
  const at::Tensor ids = tiny_ids();
  EXPECT_LT(largest_difference(with_preset("pre_qkv_pre").logits(ids), with_preset("qkv_pre").logits(ids)), 1e-12);
  EXPECT_LT(largest_difference(with_preset("pre_qkv_post").logits(ids), with_preset("hybrid").logits(ids)), 1e-12);
  const TinyModel star = with_preset("hybrid_star");
  NormPlan without = star.plan;
  without.layers[0].attention.in = {};
  EXPECT_LT(largest_difference(star.logits(ids), make_tiny_model(star.config, without).logits(ids)), 1e-12);
  EXPECT_GT(largest_difference(with_preset("pre_qk_pre").logits(ids), with_preset("qk_pre").logits(ids)), 1e-4);
}

// QK-norm bounds the attention logits by sqrt(head_dim) and hides the scale of W_Q and W_K; V-norm bounds contexts.
TEST(Invariants, InnerNormsBoundLogitsAndHideScales) {
  const std::int64_t heads = 4, width = 8;
  at::Tensor q = at::sin(at::arange(16 * heads * width, at::kDouble)).view({1, 16, heads, width}) * 50.0;
  at::Tensor k = at::cos(at::arange(16 * heads * width, at::kDouble) * 0.37).view({1, 16, heads, width}) * 9.0;
  const at::Tensor gain = at::ones({width}, at::kDouble);
  q = ops::rms_norm(q, gain, 0.0);
  k = ops::rms_norm(k, gain, 0.0);
  const RopeTable table = make_rope_table(16, width, 1e4, at::kDouble, at::kCPU);
  for (const auto& [a, b] : {std::pair{q, k}, std::pair{ops::rope(q, table), ops::rope(k, table)}}) {
    const at::Tensor logits = at::einsum("bthe,bshe->bhts", {a, b}) / std::sqrt(static_cast<double>(width));
    EXPECT_LE(logits.abs().max().item<double>(), std::sqrt(static_cast<double>(width)) * (1 + 1e-12));
  }
  const at::Tensor context = ops::attention(q, k, ops::rms_norm(k * 3.0 + 1.0, gain, 0.0), true);
  EXPECT_LE(token_rms(context).max().item<double>(), 1.0 + 1e-12);
  EXPECT_LT((token_rms(context.narrow(1, 0, 1)) - 1.0).abs().max().item<double>(), 1e-12);

  for (const auto& [preset, scaled_rows] : {std::pair{"qk", 32 + 16}, std::pair{"hybrid", 32 + 16 + 16}}) {
    const TinyModel m = with_preset(preset);
    const at::Tensor before = m.logits(tiny_ids());
    scale_rows(m, "blocks.1.attention.qkv.weight", 0, scaled_rows, 7.0);
    EXPECT_LT(largest_difference(before, m.logits(tiny_ids())), 1e-12) << preset;
  }
  const TinyModel qk = with_preset("qk");
  const at::Tensor before = qk.logits(tiny_ids());
  scale_rows(qk, "blocks.1.attention.qkv.weight", 48, 16, 7.0);
  EXPECT_GT(largest_difference(before, qk.logits(tiny_ids())), 1e-4) << "QK-norm keeps the scale of V";
}

// Textbook Post-Norm on a normed embedding is the shifted form with a final norm.
TEST(Invariants, ShiftedPostNormIsPostNormOnANormedEmbedding) {
  NormConfig config;
  config.preset = "post";
  config.eps = 0.0;
  config.embedding.kind = NormKind::rms;
  const TinyModel textbook = make_tiny_model(tiny_config(kLayers), testing::plan_of(config, kLayers));
  EXPECT_EQ(largest_difference(textbook.logits(tiny_ids()), with_preset("post_shifted").logits(tiny_ids())), 0.0);
}

// DeepNorm with alpha = beta = 1 is Post-Norm.
TEST(Invariants, DeepNormWithoutItsConstantsIsPostNorm) {
  NormConfig config;
  config.preset = "deep";
  config.layers["all"].attention.alpha = config.layers["all"].mlp.alpha = 1.0;
  config.layers["all"].attention.branch_init_scale = config.layers["all"].mlp.branch_init_scale = 1.0;
  EXPECT_EQ(testing::plan_of(config, kLayers), preset_plan("post", kLayers, 1e-5));
}

// SpanNorm's attention reaches the output only through the MLP.
TEST(Invariants, SpanNormSpansTheBlock) {
  const auto normed_embedding = [](const char* preset) {
    NormConfig config;
    config.preset = preset;
    config.eps = 0.0;
    config.embedding.kind = NormKind::rms;
    return make_tiny_model(tiny_config(kLayers), testing::plan_of(config, kLayers));
  };
  const TinyModel span = normed_embedding("span"), post = normed_embedding("post");
  EXPECT_GT(largest_difference(span.logits(tiny_ids()), post.logits(tiny_ids())), 1e-6);
  scale_outputs(span, 0.0, true, false);
  scale_outputs(post, 0.0, true, false);
  EXPECT_LT(largest_difference(span.logits(tiny_ids()), post.logits(tiny_ids())), 1e-12);

  for (const char* preset : {"span", "post"}) {
    const TinyModel m = normed_embedding(preset);
    scale_outputs(m, 0.0, false, true);
    m.backward(tiny_ids());
    double largest = 0.0;
    for (std::int64_t l = 0; l < kLayers; ++l) {
      for (const char* matrix : {"qkv", "out"}) {
        const at::Tensor grad = m.parameter(cat("blocks.", l, ".attention.", matrix, ".weight")).grad();
        largest = std::max(largest, grad.abs().max().item<double>());
      }
    }
    if (preset == std::string("span")) {
      EXPECT_EQ(largest, 0.0);
      const auto stream = m.stream(tiny_ids());
      EXPECT_LT(largest_difference(stream[2], rms_normed(stream[1])), 1e-12);
    } else {
      EXPECT_GT(largest, 0.0);
    }
  }
}

// When its branches return zero, a block is the identity or a single norm.
TEST(Invariants, SilentBranchesLeaveTheSkip) {
  for (const char* preset : {"pre", "qk", "qkv", "olmo2", "sandwich"}) {
    const TinyModel m = with_preset(preset, 1e-5);  // N(0) = 0 needs eps > 0
    scale_outputs(m, 0.0);
    const auto stream = m.stream(tiny_ids());
    EXPECT_EQ(largest_difference(stream.back(), stream.front()), 0.0) << preset;
  }
  for (const char* preset : {"hybrid", "post", "deep", "span"}) {
    const TinyModel m = with_preset(preset);
    scale_outputs(m, 0.0);
    const auto stream = m.stream(tiny_ids());
    for (std::size_t l = 1; l < stream.size(); ++l) {
      EXPECT_LT(largest_difference(stream[l], rms_normed(stream[0])), 1e-13) << preset << " " << l;
    }
  }
}

// With a norm on the branch's output, each contribution has RMS 1 for every scale of W_O and W_down.
TEST(Invariants, OutputNormsFixTheContribution) {
  for (const char* preset : {"olmo2", "sandwich", "peri"}) {
    const TinyModel m = with_preset(preset);
    const at::Tensor before = m.logits(tiny_ids());
    scale_outputs(m, 7.0);
    EXPECT_LT(largest_difference(before, m.logits(tiny_ids())), 1e-12) << preset;

    NormPlan only_attention = preset_plan(preset, 1, 0.0);
    only_attention.layers[0].mlp.beta = 0.0;
    const auto stream = make_tiny_model(tiny_config(1), only_attention).stream(tiny_ids());
    EXPECT_LT(rms_error(stream[1] - stream[0]), 1e-12) << preset;

    RunConfig deep = tiny_config(8);
    deep.model.d_model = 128;
    deep.model.mlp_dim = 344;
    const auto growing = with_preset(preset, 0.0, deep).stream(tiny_ids());
    const double start = token_rms(growing.front()).square().mean().item<double>();
    const double end = token_rms(growing.back()).mean().item<double>();
    EXPECT_NEAR(end / std::sqrt(start + 16.0), 1.0, 0.05) << preset;
  }
}

// SpanNorm's two explicit scalings compute the same; a final norm after Post-Norm with a gain of 1 changes nothing.
TEST(Invariants, EquivalentScalingsAndIdleFinalNorm) {
  const auto span = [](SpanScaling scaling) {
    NormConfig config;
    config.preset = "span";
    config.eps = 0.0;
    config.span.scaling = scaling;
    return make_tiny_model(tiny_config(kLayers), testing::plan_of(config, kLayers)).logits(tiny_ids());
  };
  EXPECT_LT(largest_difference(span(SpanScaling::branch), span(SpanScaling::skip)), 1e-12);
  NormConfig config;
  config.preset = "post";
  config.eps = 0.0;
  config.final.kind = NormKind::rms;
  const TinyModel with_final = make_tiny_model(tiny_config(kLayers), testing::plan_of(config, kLayers));
  EXPECT_LT(largest_difference(with_final.logits(tiny_ids()), with_preset("post").logits(tiny_ids())), 1e-13);
}

// HybridNorm without its inner norms is plain attention with a Post-Norm MLP.
TEST(Invariants, EditsTurnHybridNormIntoPlainPost) {
  NormConfig config;
  config.preset = "hybrid";
  LayerEdit& all = config.layers["all"];
  all.inner.q.kind = all.inner.k.kind = all.inner.v.kind = NormKind::none;
  NormConfig by_hand;
  by_hand.preset = "pre_post";
  by_hand.layers["all"].attention.in.kind = NormKind::none;
  EXPECT_EQ(testing::plan_of(config, kLayers), testing::plan_of(by_hand, kLayers));
}

struct EulerCase {
  const char* preset;
  const char* matrix;
  std::int64_t begin, rows;  // of the matrix, scale-free
};

// Euler's identity for scale-free weights: <W, dL/dW> = 0, and scaling W by c divides its gradient by c and does not
// change any other gradient.
TEST(Invariants, ScaleFreeWeightsHaveOrthogonalGradients) {
  const EulerCase cases[] = {
      {"qk", "attention.qkv", 0, 32},      {"qk", "attention.qkv", 32, 16},      {"hybrid", "attention.qkv", 0, 32},
      {"hybrid", "attention.qkv", 32, 16}, {"hybrid", "attention.qkv", 48, 16},  {"olmo2", "attention.out", 0, 32},
      {"olmo2", "mlp.down", 0, 32},        {"sandwich", "attention.out", 0, 32}, {"peri", "mlp.down", 0, 32}};
  for (const EulerCase& c : cases) {
    const TinyModel m = with_preset(c.preset);
    const std::string name = cat("blocks.1.", c.matrix, ".weight");
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, c.begin, c.rows); };
    m.backward(tiny_ids());
    const at::Tensor weight = m.parameter(name).detach();
    const at::Tensor grad = part(m.parameter(name).grad()).clone();
    const at::Tensor other = m.parameter("embedding.weight").grad().clone();
    const double scale = (part(weight).norm() * grad.norm()).item<double>();
    EXPECT_LT(std::abs((part(weight) * grad).sum().item<double>()), 1e-12 * scale) << c.preset << " " << name;
    scale_rows(m, name, c.begin, c.rows, 4.0);
    m.backward(tiny_ids());
    EXPECT_LT(largest_difference(part(m.parameter(name).grad()) * 4.0, grad), 1e-12) << c.preset << " " << name;
    EXPECT_LT(largest_difference(m.parameter("embedding.weight").grad(), other), 1e-12) << c.preset << " " << name;
  }
}

// In every preset the gain of every norm has an effect on the output.
TEST(Placement, EveryNormWeightChangesTheOutput) {
  for (const std::string& preset : preset_names()) {
    const TinyModel m = with_preset(preset, 1e-5, tiny_config(4));
    const at::Tensor before = m.logits(tiny_ids());
    for (const NormParameter& norm : norm_parameters(m.plan, m.config.model)) {
      const c10::NoGradGuard no_grad;
      const at::Tensor gain = m.parameter(norm.name);
      ASSERT_EQ(gain.numel(), norm.width);
      const at::Tensor kept = gain.clone();
      gain.mul_(1.0 + 0.1 * at::sin(at::arange(1, norm.width + 1, at::kDouble)));
      EXPECT_GT(largest_difference(before, m.logits(tiny_ids())), 1e-9) << preset << ": " << norm.name;
      gain.copy_(kept);
    }
  }
}

// With the initial weights, the gradients of these placements do not grow or shrink much with depth.
TEST(Placement, InitialGradientsAreFlatOverDepth) {
  for (const char* preset : {"pre", "post", "hybrid_star", "span", "mix"}) {
    RunConfig config = tiny_config(16);
    config.model.tie_embeddings = false;
    config.init.embedding_std = 1.0;  // an RMS of 1, so that the first block is like the others
    const TinyModel m = make_tiny_model(config, preset_plan(preset, 16, 1e-5));
    m.backward(tiny_ids());
    const auto grad = [&](std::int64_t l) {
      return m.parameter(cat("blocks.", l, ".mlp.up_gate.weight")).grad().norm().item<double>();
    };
    EXPECT_GT(grad(1) / grad(15), 0.7) << preset;
    EXPECT_LT(grad(1) / grad(15), 1.5) << preset;
  }
}

}  // namespace
}  // namespace norma
