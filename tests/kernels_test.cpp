// Every op with its own backward: finite differences in float64, other types against float64, odd shapes.
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "support/gradcheck.h"

namespace norma {
namespace {

using testing::gradcheck;
using testing::wave;

at::Tensor ids_of(const std::vector<std::int64_t>& ids) {
  return at::tensor(ids, at::kLong);
}

TEST(RmsNorm, GradientIsRight) {
  for (const double eps : {0.0, 1e-5, 0.1}) {
    gradcheck([&](const auto& in) { return ops::rms_norm(in[0], in[1], eps); }, {wave({2, 3, 5}, 0.1), wave({5}, 1.0)});
    gradcheck([&](const auto& in) { return ops::rms_norm(in[0], in[1], eps); },
              {wave({2, 2, 3, 7}, 0.4), wave({7}, 2.0)});
  }
}

TEST(RmsNorm, AZeroRowStaysZero) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor y = ops::rms_norm(at::zeros({2, 8}, type), at::ones({8}, type), 0.0);
    EXPECT_TRUE(at::equal(y, at::zeros({2, 8}, type)));
  }
}

TEST(RmsNorm, TakesStridedInput) {
  const at::Tensor wide = wave({4, 12}, 0.2), weight = wave({5}, 1.0);
  const at::Tensor part = wide.narrow(1, 3, 5);
  EXPECT_TRUE(at::equal(ops::rms_norm(part, weight, 1e-5), ops::rms_norm(part.contiguous(), weight, 1e-5)));
}

TEST(LayerNorm, HasMeanZeroAndNoBias) {
  const at::Tensor y = ops::layer_norm(wave({3, 9}, 0.5), at::ones({9}, at::kDouble), 0.0);
  EXPECT_LT(y.mean(-1).abs().max().item<double>(), 1e-14);
  EXPECT_LT((y.square().mean(-1) - 1.0).abs().max().item<double>(), 1e-12);
  gradcheck([](const auto& in) { return ops::layer_norm(in[0], in[1], 1e-5); }, {wave({3, 6}, 0.5), wave({6}, 1.5)});
}

TEST(ResidualJoin, IsTheWeightedSum) {
  const at::Tensor skip = wave({2, 3}, 0.1), y = wave({2, 3}, 0.9);
  EXPECT_TRUE(at::allclose(ops::residual_join(skip, y, 1.5, -0.5), skip * 1.5 - y * 0.5, 1e-15, 1e-15));
  gradcheck([](const auto& in) { return ops::residual_join(in[0], in[1], 1.5, -0.5); }, {skip, y});
}

TEST(Rope, GradientIsRight) {
  const RopeTable table = make_rope_table(4, 6, 500000.0, at::kDouble, at::kCPU);
  gradcheck([&](const auto& in) { return ops::rope(in[0], table); }, {wave({2, 4, 3, 6}, 0.2)});
}

TEST(Rope, KeepsLengthsAndDependsOnDistanceOnly) {
  const RopeTable table = make_rope_table(16, 8, 10000.0, at::kDouble, at::kCPU);
  const at::Tensor q = wave({1, 1, 1, 8}, 0.2).expand({1, 16, 1, 8}), k = wave({1, 1, 1, 8}, 0.9).expand({1, 16, 1, 8});
  const at::Tensor a = ops::rope(q, table).squeeze(2)[0], b = ops::rope(k, table).squeeze(2)[0];  // [16, 8]
  EXPECT_LT((a.norm(2, 1) - q[0].squeeze(1).norm(2, 1)).abs().max().item<double>(), 1e-13);
  const at::Tensor logits = at::mm(a, b.t());
  EXPECT_NEAR(logits[5][2].item<double>(), logits[15][12].item<double>(), 1e-12);
}

TEST(Rope, TurnsAdjacentPairsInPlace) {
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

TEST(Swiglu, GradientIsRight) {
  gradcheck([](const auto& in) { return ops::swiglu(in[0]); }, {wave({2, 3, 10}, 0.7) * 3.0});
}

TEST(Swiglu, FirstHalfIsUpSecondHalfIsGate) {
  const at::Tensor x = wave({4, 6}, 0.7);
  EXPECT_TRUE(at::allclose(ops::swiglu(x), x.narrow(1, 0, 3) * at::silu(x.narrow(1, 3, 3)), 1e-15, 1e-15));
}

TEST(Embed, GradientSumsRepeatedRows) {
  const at::Tensor ids = ids_of({1, 0, 1, 3, 1, 1}).view({2, 3});
  gradcheck([&](const auto& in) { return ops::embed(ids, in[0]); }, {wave({5, 3}, 0.3)});
}

TEST(LinearCrossEntropy, GradientIsRightForAnyChunk) {
  const at::Tensor targets = ids_of({3, kIgnoreToken, 0, 6, 6, kIgnoreToken, 2});
  for (const std::int64_t chunk : {1, 3, 100}) {
    for (const double z : {0.0, 0.05}) {
      gradcheck([&](const auto& in) { return ops::linear_cross_entropy(in[0], in[1], targets, 0.25, z, chunk).loss; },
                {wave({7, 4}, 0.1), wave({9, 4}, 0.8)});
    }
  }
}

TEST(LinearCrossEntropy, EqualsTheWholeLogits) {
  const at::Tensor hidden = wave({6, 4}, 0.1), weight = wave({11, 4}, 0.8);
  const at::Tensor targets = ids_of({3, kIgnoreToken, 0, 6, 6, 10});
  const CrossEntropy got = ops::linear_cross_entropy(hidden, weight, targets, 1.0, 0.0, 4);
  const at::Tensor logits = at::mm(hidden, weight.t());
  const at::Tensor want = at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum, kIgnoreToken);
  EXPECT_NEAR(got.loss.item<double>(), want.item<double>(), 1e-13);
  const at::Tensor lse = at::logsumexp(logits, 1) * targets.ne(kIgnoreToken);
  EXPECT_TRUE(at::allclose(got.token_lse, lse, 1e-14, 1e-14));
}

TEST(LinearCrossEntropy, SurvivesLogitsThatOverflowExp) {
  const at::Tensor hidden = at::full({1, 1}, 1000.0), weight = at::tensor({1.0f, -1.0f, 0.5f}).view({3, 1});
  const at::Tensor targets = ids_of({1});
  const CrossEntropy ce = ops::linear_cross_entropy(hidden, weight, targets, 1.0, 1e-4, 8);
  EXPECT_FLOAT_EQ(ce.token_ce.item<float>(), 2000.0f);
  EXPECT_FLOAT_EQ(ce.token_lse.item<float>(), 1000.0f);
}

TEST(Attention, IsCausalAndReadsKeysGroupwise) {
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

// Values narrower and wider than keys, and a scale of its own.
TEST(Attention, TakesAnyWidthOfValuesAndAnyScale) {
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

// The loops of the CPU against the compositions that define them: both types, dense and strided rows, odd widths.
TEST(CpuSteps, EqualTheReference) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const double tolerance = type == at::kFloat ? 2e-6 : 8e-3;
    const at::Tensor projected = wave({2, 5, 90}, 0.3).to(type);
    const at::Tensor gain = (wave({30}, 0.7) + 1.5).to(type), wide_gain = (wave({90}, 0.2) + 1.5).to(type);
    const at::Tensor heads = projected.narrow(-1, 30, 60).unflatten(-1, {2, 30});  // [2, 5, 2, 30], strided
    const RopeTable table = make_rope_table(5, 30, 100.0, type, at::kCPU);
    const auto all = [&] {
      return TensorList{ops::rms_norm(projected, wide_gain, 1e-5),
                        ops::rms_norm(heads, gain, 1e-5),
                        ops::rms_norm(heads.transpose(1, 2), gain, 0.0),
                        ops::rms_norm(projected * 0.0, wide_gain, 0.0),
                        ops::swiglu(projected),
                        ops::rope(heads, table),
                        ops::rope(heads.contiguous(), table)};
    };
    set_kernel_path(KernelPath::reference);
    const TensorList want = all();
    set_kernel_path(KernelPath::automatic);
    const TensorList got = all();
    for (std::size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i].scalar_type(), type);
      EXPECT_TRUE(at::allclose(got[i], want[i], tolerance, tolerance)) << type << " " << i;
    }
  }
}

TEST(LatentAttention, IsAttentionOverOneSharedKeyAndValue) {
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

TEST(PreparedLinear, SeveralProductsOfOneInputHaveTheGradientsOfThePlainComposition) {
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

// Float32 and bf16 against float64 of the same rounded input.
TEST(Ops, LowerPrecisionStaysWithinItsRounding) {
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

// prepared_linear's backward pass makes its input again; the gradients are those of the plain composition.
TEST(PreparedLinear, GradientIsRight) {
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

struct AttentionRun {
  at::Tensor out, grad_q, grad_k, grad_v;
};

// Keys and values are slices of one wider tensor, as the fused projection leaves them.
AttentionRun run_attention(KernelPath path, at::ScalarType type, std::int64_t time, std::int64_t heads,
                           std::int64_t kv_heads, std::int64_t width) {
  set_kernel_path(path);
  const auto leaf = [&](std::int64_t count, double phase) {
    return (wave({2, time, count, width}, phase) * 1.5).to(at::kBFloat16).to(type).set_requires_grad(true);
  };
  const at::Tensor q = leaf(heads, 0.3), both = leaf(2 * kv_heads, 1.1);
  const at::Tensor out = ops::attention(q, both.narrow(2, 0, kv_heads), both.narrow(2, kv_heads, kv_heads), true);
  const at::Tensor weights = wave(out.sizes(), 0.9).to(type);
  const auto grads = torch::autograd::grad({out}, {q, both}, {weights});
  set_kernel_path(KernelPath::automatic);
  return {out.detach().to(at::kDouble), grads[0].to(at::kDouble), grads[1].narrow(2, 0, kv_heads).to(at::kDouble),
          grads[1].narrow(2, kv_heads, kv_heads).to(at::kDouble)};
}

// Every width class of the kernel, times that are no whole blocks, grouped heads: hardly further from float64 than the
// reference in the same type.
TEST(FusedAttention, EqualsTheReference) {
  const auto error = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
  };
  for (const auto& [type, rounding] : {std::pair{at::kFloat, 1e-6}, std::pair{at::kBFloat16, 8e-3}}) {
    for (const std::int64_t width : {16, 32, 48, 64, 80, 96, 128}) {
      for (const std::int64_t time : {64, 65, 127, 200}) {
        const std::int64_t heads = 4, kv_heads = time % 2 == 0 ? 2 : 4;
        const AttentionRun got = run_attention(KernelPath::fused, type, time, heads, kv_heads, width);
        const AttentionRun plain = run_attention(KernelPath::reference, type, time, heads, kv_heads, width);
        const AttentionRun want = run_attention(KernelPath::reference, at::kDouble, time, heads, kv_heads, width);
        for (const auto part :
             {&AttentionRun::out, &AttentionRun::grad_q, &AttentionRun::grad_k, &AttentionRun::grad_v}) {
          EXPECT_LE(error(got.*part, want.*part), 2.0 * error(plain.*part, want.*part) + rounding)
              << type << " width " << width << " time " << time;
        }
      }
    }
  }
}

// Values narrower than keys ride along as zeros.
TEST(FusedAttention, TakesNarrowValuesAndAnyScale) {
  const at::Tensor q = wave({2, 70, 2, 48}, 0.3), k = wave({2, 70, 2, 48}, 1.1), v = wave({2, 70, 2, 32}, 2.0);
  const at::Tensor want = ops::attention(q, k, v, true, std::nullopt, 0.3);
  set_kernel_path(KernelPath::fused);
  const at::Tensor got = ops::attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), true, std::nullopt, 0.3);
  set_kernel_path(KernelPath::automatic);
  EXPECT_EQ(got.sizes(), v.sizes());
  EXPECT_LT((got.to(at::kDouble) - want).abs().max().item<double>(), 5e-6);
}

TEST(FusedAttention, IsTheSameOnAnyNumberOfThreadsAndKeepsNan) {
  const AttentionRun one = run_attention(KernelPath::fused, at::kFloat, 100, 4, 2, 32);
  const int threads = at::get_num_threads();
  at::set_num_threads(3);
  const AttentionRun three = run_attention(KernelPath::fused, at::kFloat, 100, 4, 2, 32);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.out, three.out) && at::equal(one.grad_q, three.grad_q) &&
              at::equal(one.grad_k, three.grad_k));
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    at::Tensor q = at::ones({1, 70, 1, 16}, type);
    q[0][3][0][5] = std::nan("");
    EXPECT_TRUE(at::isnan(ops::attention(q, at::ones_like(q), at::ones_like(q), true)[0][3]).any().item<bool>());
  }
}

TEST(FusedAttention, RefusesWhatItDoesNotSupportWhenForced) {
  set_kernel_path(KernelPath::fused);
  const at::Tensor q = at::ones({1, 70, 1, 16}, at::kDouble);
  EXPECT_THROW(ops::attention(q, q, q, true), CheckFailure);
  set_kernel_path(KernelPath::automatic);
}

}  // namespace
}  // namespace norma
