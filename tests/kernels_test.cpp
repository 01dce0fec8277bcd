// The reference of every op: its formula, finite differences in float64, and other types against float64. That fused
// paths equal the references is shown in kernel_paths_test.
#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "norma/kernels/ops.h"

#include "support/gradcheck.h"
#include "support/kernel_path.h"

namespace norma {
namespace {

using testing::gradcheck;
using testing::wave;

// Every test of this file runs the references.
class OnReference : public ::testing::Test {
  const testing::KernelPathScope scope_{KernelPath::reference};
};
using RmsNorm = OnReference;
using LayerNorm = OnReference;
using ResidualJoin = OnReference;
using Rope = OnReference;
using Swiglu = OnReference;
using Embed = OnReference;
using LinearCrossEntropy = OnReference;
using Attention = OnReference;
using LatentAttention = OnReference;
using RecomputedLinear = OnReference;
using Ops = OnReference;

at::Tensor ids_of(const std::vector<std::int64_t>& ids) {
  return at::tensor(ids, at::kLong);
}

TEST_F(RmsNorm, GradientIsRight) {
  for (const double eps : {0.0, 1e-5, 0.1}) {
    gradcheck([&](const auto& in) { return ops::rms_norm(in[0], in[1], eps); }, {wave({2, 3, 5}, 0.1), wave({5}, 1.0)});
    gradcheck([&](const auto& in) { return ops::rms_norm(in[0], in[1], eps); },
              {wave({2, 2, 3, 7}, 0.4), wave({7}, 2.0)});
  }
}

TEST_F(RmsNorm, AZeroRowStaysZero) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor y = ops::rms_norm(at::zeros({2, 8}, type), at::ones({8}, type), 0.0);
    EXPECT_TRUE(at::equal(y, at::zeros({2, 8}, type)));
  }
}

TEST_F(RmsNorm, TakesStridedInput) {
  const at::Tensor wide = wave({4, 12}, 0.2), weight = wave({5}, 1.0);
  const at::Tensor part = wide.narrow(1, 3, 5);
  EXPECT_TRUE(at::equal(ops::rms_norm(part, weight, 1e-5), ops::rms_norm(part.contiguous(), weight, 1e-5)));
}

TEST_F(LayerNorm, HasMeanZeroAndNoBias) {
  const at::Tensor y = ops::layer_norm(wave({3, 9}, 0.5), at::ones({9}, at::kDouble), 0.0);
  EXPECT_LT(y.mean(-1).abs().max().item<double>(), 1e-14);
  EXPECT_LT((y.square().mean(-1) - 1.0).abs().max().item<double>(), 1e-12);
  gradcheck([](const auto& in) { return ops::layer_norm(in[0], in[1], 1e-5); }, {wave({3, 6}, 0.5), wave({6}, 1.5)});
}

TEST_F(ResidualJoin, IsTheWeightedSum) {
  const at::Tensor skip = wave({2, 3}, 0.1), y = wave({2, 3}, 0.9);
  EXPECT_TRUE(at::allclose(ops::residual_join(skip, y, 1.5, -0.5), skip * 1.5 - y * 0.5, 1e-15, 1e-15));
  gradcheck([](const auto& in) { return ops::residual_join(in[0], in[1], 1.5, -0.5); }, {skip, y});
}

TEST_F(Rope, GradientIsRight) {
  const RopeTable table = make_rope_table(4, 6, 500000.0, at::kDouble, at::kCPU);
  gradcheck([&](const auto& in) { return ops::rope(in[0], table); }, {wave({2, 4, 3, 6}, 0.2)});
}

TEST_F(Rope, KeepsLengthsAndDependsOnDistanceOnly) {
  const RopeTable table = make_rope_table(16, 8, 10000.0, at::kDouble, at::kCPU);
  const at::Tensor q = wave({1, 1, 1, 8}, 0.2).expand({1, 16, 1, 8}), k = wave({1, 1, 1, 8}, 0.9).expand({1, 16, 1, 8});
  const at::Tensor a = ops::rope(q, table).squeeze(2)[0], b = ops::rope(k, table).squeeze(2)[0];  // [16, 8]
  EXPECT_LT((a.norm(2, 1) - q[0].squeeze(1).norm(2, 1)).abs().max().item<double>(), 1e-13);
  const at::Tensor logits = at::mm(a, b.t());
  EXPECT_NEAR(logits[5][2].item<double>(), logits[15][12].item<double>(), 1e-12);
}

TEST_F(Rope, TurnsAdjacentPairsInPlace) {
  const std::vector<double> frequencies = {1.0, 0.3};
  const RopeTable table = make_rope_table(3, frequencies, at::kDouble, at::kCPU, RotaryPairs::adjacent, 1.5);
  const at::Tensor x = wave({2, 3, 2, 4}, 0.2), y = ops::rope(x, table);
  for (const std::int64_t pair : {0, 1}) {
    const double angle = 2.0 * frequencies[static_cast<std::size_t>(pair)];  // at position 2
    const at::Tensor in = x[1][2][1].narrow(0, 2 * pair, 2), out = y[1][2][1].narrow(0, 2 * pair, 2);
    const double a = in[0].item<double>(), b = in[1].item<double>();
    EXPECT_NEAR(out[0].item<double>(), 1.5 * (a * std::cos(angle) - b * std::sin(angle)), 1e-14);
    EXPECT_NEAR(out[1].item<double>(), 1.5 * (b * std::cos(angle) + a * std::sin(angle)), 1e-14);
  }
  gradcheck([&](const auto& in) { return ops::rope(in[0], table); }, {x});
  gradcheck([&](const auto& in) { return ops::rope(in[0].narrow(-1, 3, 4), table); }, {wave({2, 3, 2, 7}, 0.2)});
}

TEST_F(Swiglu, GradientIsRight) {
  gradcheck([](const auto& in) { return ops::swiglu(in[0]); }, {wave({2, 3, 10}, 0.7) * 3.0});
}

TEST_F(Swiglu, FirstHalfIsUpSecondHalfIsGate) {
  const at::Tensor x = wave({4, 6}, 0.7);
  EXPECT_TRUE(at::allclose(ops::swiglu(x), x.narrow(1, 0, 3) * at::silu(x.narrow(1, 3, 3)), 1e-15, 1e-15));
}

TEST_F(Embed, GradientSumsRepeatedRows) {
  const at::Tensor ids = ids_of({1, 0, 1, 3, 1, 1}).view({2, 3});
  gradcheck([&](const auto& in) { return ops::embed(ids, in[0]); }, {wave({5, 3}, 0.3)});
}

TEST_F(LinearCrossEntropy, GradientIsRightForAnyChunk) {
  const at::Tensor targets = ids_of({3, kIgnoreToken, 0, 6, 6, kIgnoreToken, 2});
  for (const std::int64_t chunk : {1, 3, 100}) {
    for (const double z : {0.0, 0.05}) {
      gradcheck([&](const auto& in) { return ops::linear_cross_entropy(in[0], in[1], targets, 0.25, z, chunk).loss; },
                {wave({7, 4}, 0.1), wave({9, 4}, 0.8)});
    }
  }
}

TEST_F(LinearCrossEntropy, EqualsTheWholeLogits) {
  const at::Tensor hidden = wave({6, 4}, 0.1), weight = wave({11, 4}, 0.8);
  const at::Tensor targets = ids_of({3, kIgnoreToken, 0, 6, 6, 10});
  const CrossEntropy got = ops::linear_cross_entropy(hidden, weight, targets, 1.0, 0.0, 4);
  const at::Tensor logits = at::mm(hidden, weight.t());
  const at::Tensor want = at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum, kIgnoreToken);
  EXPECT_NEAR(got.loss.item<double>(), want.item<double>(), 1e-13);
  const at::Tensor lse = at::logsumexp(logits, 1) * targets.ne(kIgnoreToken);
  EXPECT_TRUE(at::allclose(got.token_lse, lse, 1e-14, 1e-14));
}

TEST_F(LinearCrossEntropy, SurvivesLogitsThatOverflowExp) {
  const at::Tensor hidden = at::full({1, 1}, 1000.0), weight = at::tensor({1.0f, -1.0f, 0.5f}).view({3, 1});
  const at::Tensor targets = ids_of({1});
  const CrossEntropy ce = ops::linear_cross_entropy(hidden, weight, targets, 1.0, 1e-4, 8);
  EXPECT_FLOAT_EQ(ce.token_ce.item<float>(), 2000.0f);
  EXPECT_FLOAT_EQ(ce.token_lse.item<float>(), 1000.0f);
}

TEST_F(Attention, IsCausalAndReadsKeysGroupwise) {
  const at::Tensor q = wave({2, 5, 4, 6}, 0.1), k = wave({2, 5, 2, 6}, 0.5), v = wave({2, 5, 2, 6}, 1.1);
  const at::Tensor out = ops::attention(q, k, v, /*causal=*/true);  // [B, T, H, E]
  for (std::int64_t h = 0; h < 4; ++h) {
    const at::Tensor keys = k.select(2, h / 2), values = v.select(2, h / 2);  // [B, T, E]
    at::Tensor logits = at::bmm(q.select(2, h), keys.transpose(1, 2)) / std::sqrt(6.0);
    logits = logits.masked_fill(at::ones({5, 5}, at::kBool).triu(1), -INFINITY);
    const at::Tensor want = at::bmm(logits.softmax(-1), values);
    EXPECT_TRUE(at::allclose(out.select(2, h), want, 1e-13, 1e-13)) << "head " << h;
  }
  gradcheck([](const auto& in) { return ops::attention(in[0], in[1], in[2], true); },
            {wave({1, 3, 2, 4}, 0.1), wave({1, 3, 1, 4}, 0.5), wave({1, 3, 1, 4}, 1.1)});
}

// Values may be narrower or wider than keys, and the scale may be given.
TEST_F(Attention, TakesAnyWidthOfValuesAndAnyScale) {
  for (const std::int64_t width : {3, 4, 6}) {
    const at::Tensor q = wave({1, 3, 2, 4}, 0.1), k = wave({1, 3, 2, 4}, 0.5), v = wave({1, 3, 2, width}, 1.1);
    const auto f = [](const auto& in) { return ops::attention(in[0], in[1], in[2], true, std::nullopt, 0.7); };
    const at::Tensor got = f(std::vector<at::Tensor>{q, k, v});  // [B, T, H, Ev]
    at::Tensor scores = at::einsum("bthe,bshe->bhts", {q, k}) * 0.7;
    scores = scores.masked_fill(at::ones({3, 3}, at::kBool).triu(1), -INFINITY);
    EXPECT_TRUE(at::allclose(got, at::einsum("bhts,bshe->bthe", {scores.softmax(-1), v}), 1e-13, 1e-13)) << width;
    gradcheck(f, {q, k, v});
  }
}

TEST_F(LatentAttention, IsAttentionOverOneSharedKeyAndValue) {
  const at::Tensor c = wave({2, 6, 5}, 0.3), k = wave({2, 6, 4}, 0.9);
  const at::Tensor key_scale = wave({2, 6, 3}, 0.2) + 2.0, value_scale = wave({2, 6, 1}, 0.4) + 2.0;
  const at::Tensor keys = at::cat({c, k}, -1).unsqueeze(2).expand({2, 6, 3, 9}) * key_scale.unsqueeze(-1);
  const at::Tensor values = (c * value_scale).unsqueeze(2).expand({2, 6, 3, 5});
  for (const std::int64_t tokens : {1, 2}) {  // the last ones
    const at::Tensor q = wave({2, tokens, 3, 5}, 0.1), r = wave({2, tokens, 3, 4}, 0.7);
    const at::Tensor mask = at::ones({tokens, 6}, at::kBool).tril(6 - tokens).view({1, 1, tokens, 6});
    const at::Tensor want = ops::attention(at::cat({q, r}, -1), keys, values, false, mask, 0.4);
    const at::Tensor got = ops::latent_attention(q, r, {c, k, key_scale, key_scale, value_scale}, 0.4, mask);
    EXPECT_LT((got - want).abs().max().item<double>(), 1e-13) << tokens;
  }
}

TEST_F(RecomputedLinear, SeveralProductsOfOneInputHaveTheGradientsOfThePlainComposition) {
  std::vector<std::vector<at::Tensor>> of_paths;
  for (const bool recompute : {false, true}) {
    const auto f = [&](const auto& in) {
      const auto prepare = [](const TensorList& x) { return at::tanh(x[0]); };
      const PreparedLinears out = ops::prepared_linears(prepare, {in[0]}, {in[1], in[2]}, recompute);
      return at::cat({out.y[0].sin(), out.y[1], out.h}, -1);
    };
    const std::vector<at::Tensor> inputs = {wave({2, 3, 4}, 0.1), wave({5, 4}, 1.3), wave({2, 4}, 0.4)};
    gradcheck(f, inputs);
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& input : inputs) leaves.push_back(input.clone().set_requires_grad(true));
    const at::Tensor out = f(leaves);
    of_paths.push_back(torch::autograd::grad({out}, {leaves.begin(), leaves.end()}, {wave(out.sizes(), 0.3)}));
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(of_paths[0][i], of_paths[1][i])) << i;
}

// Compares float32 and bf16 with float64 of the same rounded input.
TEST_F(Ops, LowerPrecisionStaysWithinItsRounding) {
  for (const auto& [type, tolerance] : {std::pair{at::kFloat, 2e-6}, std::pair{at::kBFloat16, 2e-2}}) {
    const auto round = [t = type](const at::Tensor& x) { return x.to(t); };
    const auto expect_near = [tol = tolerance](const at::Tensor& got, const at::Tensor& want, const char* what) {
      const double error = (got.to(at::kDouble) - want).abs().max().item<double>();
      EXPECT_LE(error, tol * std::max(1.0, want.abs().max().item<double>())) << what;
    };
    const at::Tensor x = round(wave({3, 33}, 0.1)), w = round(wave({33}, 1.0) + 2.0), u = round(wave({3, 34}, 0.4));
    EXPECT_EQ(ops::rms_norm(x, w, 1e-5).scalar_type(), type);
    expect_near(ops::rms_norm(x, w, 1e-5), ops::rms_norm(x.to(at::kDouble), w.to(at::kDouble), 1e-5), "rms_norm");
    expect_near(ops::layer_norm(x, w, 1e-5), ops::layer_norm(x.to(at::kDouble), w.to(at::kDouble), 1e-5), "layer_norm");
    expect_near(ops::swiglu(u), ops::swiglu(u.to(at::kDouble)), "swiglu");
    const at::Tensor q = round(wave({1, 5, 3, 8}, 0.3));
    const RopeTable narrow = make_rope_table(5, 8, 1e4, type, at::kCPU);
    const RopeTable wide = make_rope_table(5, 8, 1e4, at::kDouble, at::kCPU);
    EXPECT_EQ(ops::rope(q, narrow).scalar_type(), type);
    expect_near(ops::rope(q, narrow), ops::rope(q.to(at::kDouble), wide), "rope");
    const at::Tensor h = round(wave({5, 7}, 0.3)), v = round(wave({13, 7}, 0.6));
    const at::Tensor targets = ids_of({1, 12, 0, 5, 7});
    expect_near(ops::linear_cross_entropy(h, v, targets, 1.0, 0.0, 2).loss,
                ops::linear_cross_entropy(h.to(at::kDouble), v.to(at::kDouble), targets, 1.0, 0.0, 2).loss,
                "cross entropy");
  }
}

// The backward pass of prepared_linear makes its input again; the gradients are those of the plain composition.
TEST_F(RecomputedLinear, GradientIsRight) {
  for (const bool recompute : {false, true}) {
    gradcheck(
        [&](const auto& in) {
          const auto prepare = [&](const TensorList& x) { return x[0] * x[0] + x[1]; };
          const PreparedLinear out = ops::prepared_linear(prepare, {in[0], in[1]}, in[2], recompute);
          return at::cat({out.y, out.h}, -1);  // a gradient comes for both
        },
        {wave({2, 3, 4}, 0.1), wave({2, 3, 4}, 0.7), wave({5, 4}, 1.3)});
  }
}

}  // namespace
}  // namespace norma
