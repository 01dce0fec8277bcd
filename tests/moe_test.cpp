// Experts: how they are chosen, their losses and products, and what must hold for a model that has them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "norma/kernels/experts.h"
#include "norma/kernels/ops.h"

#include "support/gradcheck.h"
#include "support/kernel_path.h"
#include "support/tiny_model.h"

namespace norma {
namespace {

using testing::gradcheck;
using testing::KernelPathScope;
using testing::make_tiny_model;
using testing::preset_plan;
using testing::tiny_config;
using testing::tiny_ids;
using testing::TinyModel;
using testing::wave;

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// Every result here can be reached by the reference and by a fused path.
constexpr KernelPath kPaths[] = {KernelPath::reference, KernelPath::fused};

// Every kind of rule.
std::vector<RouterRule> rules() {
  std::vector<RouterRule> all;
  for (const bool sigmoid : {false, true}) {
    for (const bool normalize : {false, true}) {
      RouterRule plain{3, sigmoid, normalize, normalize ? 2.5 : 1.0, 1, 1, false};
      RouterRule grouped = plain;
      grouped.groups = 3;
      grouped.top_groups = 2;
      grouped.group_of_two = normalize;
      all.push_back(plain);
      all.push_back(grouped);
    }
  }
  return all;
}

TEST(Router, GradientsAreRight) {
  const at::Tensor logits = wave({5, 6}, 0.4) * 2.0, bias = wave({6}, 0.9) * 0.3;
  for (const RouterRule& rule : rules()) {
    for (const bool biased : {false, true}) {
      const KernelPathScope scope(biased ? KernelPath::reference : KernelPath::fused);
      gradcheck(
          [&](const auto& in) {
            const Routing r = ops::route(in[0], biased ? std::optional(bias) : std::nullopt, rule);
            return at::cat({r.weights.flatten(), r.balance.view({1}), r.z.view({1})});
          },
          {logits});
    }
  }
}

TEST(Router, WeightsAreTheScoresOfTheBestInOrder) {
  const at::Tensor logits = wave({7, 6}, 0.4) * 3.0, scores = logits.softmax(1);
  const Routing r = ops::route(logits, {}, {2, false, false, 1.0, 1, 1, false});
  const auto best = scores.topk(2);
  EXPECT_TRUE(at::equal(r.experts, std::get<1>(best)));
  EXPECT_LT(largest_difference(r.weights, std::get<0>(best)), 1e-15);
  EXPECT_LT(r.weights.sum(1).max().item<double>(), 1.0) << "not renormalised";
  EXPECT_EQ(r.counts.sum().item<std::int64_t>(), 14);
  const at::Tensor entropy = -(scores * scores.log()).sum();
  EXPECT_NEAR(r.entropy.item<double>(), entropy.item<double>(), 1e-12);
}

// As in DeepSeek-V3, experts are chosen by score + bias within the best groups and weighted by the score alone.
TEST(Router, ABiasChoosesButDoesNotWeigh) {
  const at::Tensor logits = wave({9, 6}, 1.4) * 2.0, scores = logits.sigmoid(), bias = wave({6}, 0.2) * 2.0;
  const Routing r = ops::route(logits, bias, {2, true, true, 2.5, 3, 2, true});
  for (std::int64_t t = 0; t < 9; ++t) {
    std::vector<double> choice(6), groups(3);
    for (std::size_t e = 0; e < 6; ++e) {
      const auto i = static_cast<std::int64_t>(e);
      choice[e] = scores[t][i].item<double>() + bias[i].item<double>();
      groups[e / 2] += choice[e];  // two experts a group: both
    }
    const auto worst = std::min_element(groups.begin(), groups.end()) - groups.begin();
    std::vector<std::int64_t> left;
    for (std::int64_t e = 0; e < 6; ++e) {
      if (e / 2 != worst) left.push_back(e);
    }
    std::sort(left.begin(), left.end(), [&](std::int64_t a, std::int64_t b) {
      return choice[static_cast<std::size_t>(a)] > choice[static_cast<std::size_t>(b)];
    });
    const double a = scores[t][left[0]].item<double>(), b = scores[t][left[1]].item<double>();
    EXPECT_EQ(r.experts[t][0].item<std::int64_t>(), left[0]);
    EXPECT_EQ(r.experts[t][1].item<std::int64_t>(), left[1]);
    EXPECT_NEAR(r.weights[t][0].item<double>(), 2.5 * a / (a + b), 1e-14);
    EXPECT_NEAR(r.weights[t][1].item<double>(), 2.5 * b / (a + b), 1e-14);
  }
}

TEST(Router, TheLowerIndexWinsAmongEqualScores) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    at::Tensor logits = at::zeros({3, 5}, type);
    logits[1][3] = 1.0;
    logits[2].fill_(std::numeric_limits<double>::quiet_NaN());  // a run that diverges still names experts
    const at::Tensor want = at::tensor({0, 1, 2, 3, 0, 1, 0, 1, 2}, at::kLong).view({3, 3});
    for (const KernelPath path : kPaths) {
      const KernelPathScope scope(path);
      const Routing r = ops::route(logits, {}, {3, false, false, 1.0, 1, 1, false});
      EXPECT_TRUE(at::equal(r.experts, want)) << r.experts;
    }
  }
}

// With n fixed, balance is linear in P: its gradient is that of E / (N k) * sum n_e P_e and nothing else.
TEST(Router, TheBalanceLossIsFeltThroughTheScoresOnly) {
  const at::Tensor logits = (wave({8, 4}, 0.3) * 2.0).set_requires_grad(true);
  const Routing r = ops::route(logits, {}, {2, false, false, 1.0, 1, 1, false});
  const at::Tensor plain = (r.counts * logits.softmax(1).mean(0)).sum() * (4.0 / 16.0);
  EXPECT_NEAR(r.balance.item<double>(), plain.item<double>(), 1e-14);
  const at::Tensor got = torch::autograd::grad({r.balance}, {logits})[0];
  const at::Tensor want = torch::autograd::grad({plain}, {logits})[0];
  EXPECT_LT(largest_difference(got, want), 1e-15);
}

TEST(Router, UniformScoresGiveTheLossesOfTheFormula) {
  const Routing r = ops::route(at::zeros({16, 8}, at::kDouble), {}, {2, false, false, 1.0, 1, 1, false});
  EXPECT_DOUBLE_EQ(r.balance.item<double>(), 1.0);
  EXPECT_DOUBLE_EQ(r.z.item<double>(), std::log(8.0) * std::log(8.0) / 2.0);
  EXPECT_NEAR(r.entropy.item<double>(), 16 * std::log(8.0), 1e-12);
}

TEST(ExpertOrder, KeepsEveryPairAndTheOrderOfTokens) {
  const at::Tensor experts = at::tensor({2, 0, 2, 3, 0, 2, 3, 2}, at::kLong).view({4, 2});
  const at::Tensor counts = at::tensor({2, 0, 4, 2, 0}, at::kLong);
  for (const KernelPath path : kPaths) {
    const KernelPathScope scope(path);
    const ExpertOrder order = ops::order_by_expert(experts, counts);
    EXPECT_TRUE(at::equal(order.pairs, at::tensor({1, 4, 0, 2, 5, 7, 3, 6}, at::kLong)));
    EXPECT_TRUE(at::equal(order.rows.index_select(0, order.pairs), at::arange(8, at::kLong)));
    EXPECT_TRUE(at::equal(order.ends.to(at::kLong), at::tensor({2, 2, 6, 8, 8}, at::kLong)));
  }
}

struct Choice {
  std::string name;
  at::Tensor experts;  // [N, k]
};

// Choices of five tokens among four experts.
std::vector<Choice> choices() {
  const auto table = [](const std::vector<std::int64_t>& list, std::int64_t k) {
    return at::tensor(list).view({-1, k});
  };
  return {{"an empty expert", table({0, 3, 3, 1, 1, 0, 0, 1, 3, 0}, 2)},
          {"one expert gets all", table({2, 2, 2, 2, 2}, 1)},
          {"every expert", table({0, 1, 2, 3, 3, 2, 1, 0, 1, 0, 3, 2, 2, 3, 0, 1, 0, 2, 1, 3}, 4)}};
}

// Enough tokens that the rows of an expert are rounded up on a CPU. Each expert has another number of them, one none.
Choice many_tokens() {
  const at::Tensor t = at::arange(150, at::kLong);
  return {"many tokens", at::stack({t.remainder(5).clamp_max(1) * 3, t.remainder(7).eq(0).to(at::kLong)}, 1)};
}

ExpertOrder order_of(const at::Tensor& experts) {
  return ops::order_by_expert(experts, at::bincount(experts.flatten(), {}, 4));
}

TEST(ExpertMlp, GradientsAreRight) {
  for (const Choice& choice : choices()) {
    for (const auto& [path, keep_less] : {std::pair{KernelPath::reference, false}, std::pair{KernelPath::fused, false},
                                          std::pair{KernelPath::fused, true}}) {
      SCOPED_TRACE(choice.name);
      const KernelPathScope scope(path);
      const ExpertOrder order = order_of(choice.experts);
      gradcheck(
          [&, less = keep_less](const auto& in) { return ops::expert_mlp(in[0], in[1], in[2], in[3], order, less); },
          {wave({5, 3}, 0.1), wave({4, 4, 3}, 0.7), wave({4, 3, 2}, 1.9), wave({5, choice.experts.size(1)}, 0.5)});
    }
  }
}

TEST(ExpertMlp, IsTheWeightedSumOfDenseMlps) {
  const at::Tensor x = wave({5, 3}, 0.1), up_gate = wave({4, 4, 3}, 0.7), down = wave({4, 3, 2}, 1.9);
  for (const Choice& choice : choices()) {
    const at::Tensor weights = wave(choice.experts.sizes(), 0.5);
    at::Tensor want = at::zeros_like(x);
    for (std::int64_t t = 0; t < 5; ++t) {
      for (std::int64_t j = 0; j < weights.size(1); ++j) {
        const std::int64_t e = choice.experts[t][j].item<std::int64_t>();
        want[t] += weights[t][j] * at::linear(ops::swiglu(at::linear(x[t], up_gate[e])), down[e]);
      }
    }
    for (const KernelPath path : kPaths) {
      const KernelPathScope scope(path);
      EXPECT_LT(largest_difference(ops::expert_mlp(x, up_gate, down, weights, order_of(choice.experts)), want), 1e-14);
    }
  }
}

struct ExpertRun {
  at::Tensor out;
  std::vector<at::Tensor> grads;
};

ExpertRun run_experts(at::ScalarType type, KernelPath path, Products products, const Choice& choice) {
  const KernelPathScope scope(path);
  const auto leaf = [&](const at::Tensor& x) { return x.to(at::kBFloat16).to(type).set_requires_grad(true); };
  const at::Tensor x = leaf(wave({choice.experts.size(0), 16}, 0.1)), up_gate = leaf(wave({4, 48, 16}, 0.7)),
                   down = leaf(wave({4, 16, 24}, 1.9));
  const at::Tensor weights = wave(choice.experts.sizes(), 0.5).to(accumulate_type(type)).set_requires_grad(true);
  const at::Tensor out = ops::expert_mlp(x, up_gate, down, weights, order_of(choice.experts), false, products);
  const auto grads = torch::autograd::grad({out}, {x, up_gate, down, weights}, {wave(out.sizes(), 0.9).to(type)});
  return {out.detach(), grads};
}

// Compares every path in every type with the reference in float64.
TEST(ExpertMlp, PathsAgree) {
  std::vector<Choice> all = choices();
  all.push_back(many_tokens());
  const auto error = [](const at::Tensor& a, const at::Tensor& b) {
    return largest_difference(a, b) / b.abs().max().item<double>();
  };
  for (const Choice& choice : all) {
    const ExpertRun want = run_experts(at::kDouble, KernelPath::reference, Products::automatic, choice);
    for (const auto& [type, rounding] :
         {std::pair{at::kDouble, 1e-14}, std::pair{at::kFloat, 2e-6}, std::pair{at::kBFloat16, 3e-2}}) {
      for (const KernelPath path : kPaths) {
        for (const Products products : {Products::per_expert, Products::one_call}) {
          if (products == Products::one_call && type == at::kDouble) continue;  // ATen's call takes no float64
          const ExpertRun got = run_experts(type, path, products, choice);
          EXPECT_LE(error(got.out, want.out), rounding) << choice.name << " " << type;
          for (std::size_t i = 0; i < got.grads.size(); ++i) {
            EXPECT_LE(error(got.grads[i], want.grads[i]), rounding) << choice.name << " " << type << " gradient " << i;
          }
        }
      }
    }
  }
}

// ---- Models ----

RunConfig moe_config() {
  RunConfig config = tiny_config(3);
  config.model.mlp = MlpKind::moe;
  config.model.moe.num_experts = 6;
  config.model.moe.expert_dim = 20;
  return config;
}

TinyModel make(const RunConfig& config) {
  return make_tiny_model(config, preset_plan("hybrid_star", config.model.num_layers, 1e-5));
}

ModelLoss loss_of(const TinyModel& m) {
  m.engine->clear_gradients();
  ModelLoss loss = m.model->loss(tiny_ids(), {1.0 / 32, 0.0, 64, 1.0}, *m.engine);
  loss.loss.backward();
  return loss;
}

TEST(MoeModel, RenamingExpertsChangesNothing) {
  RunConfig config = moe_config();
  config.model.moe.shared_experts = 1;
  const TinyModel m = make(config);
  const at::Tensor logits = m.logits(tiny_ids());
  const ModelLoss before = loss_of(m);
  const at::Tensor order = at::tensor({3, 0, 5, 1, 4, 2}, at::kLong);
  for (const char* name : {"router.weight", "experts.up_gate.weight", "experts.down.weight"}) {
    const c10::NoGradGuard no_grad;
    const at::Tensor weight = m.parameter(std::string("blocks.1.mlp.") + name);
    weight.copy_(weight.index_select(0, order));
  }
  EXPECT_LT(largest_difference(m.logits(tiny_ids()), logits), 1e-13);
  const ModelLoss after = loss_of(m);
  EXPECT_NEAR(after.load_balancing.item<double>(), before.load_balancing.item<double>(), 1e-15);
  EXPECT_NEAR(after.router_z.item<double>(), before.router_z.item<double>(), 1e-15);
  EXPECT_TRUE(at::equal(after.routing[1].counts, before.routing[1].counts.index_select(0, order)));
}

TEST(MoeModel, LossesAreOLMoEsAndCountsAddUp) {
  RunConfig config = moe_config();
  config.model.layers["1"].mlp = MlpKind::dense;
  const TinyModel m = make(config);
  const c10::NoGradGuard no_grad;
  for (const char* layer : {"0", "2"}) m.parameter(std::string("blocks.") + layer + ".mlp.router.weight").zero_();
  const ModelLoss loss = m.model->loss(tiny_ids(), {1.0 / 32, 0.0, 64, 0.25}, *m.engine);
  EXPECT_NEAR(loss.load_balancing.item<double>(), 0.25 * 0.01, 1e-16) << "a mean over layers with experts";
  EXPECT_NEAR(loss.router_z.item<double>(), 0.25 * 0.001 * std::pow(std::log(6.0), 2) / 2.0, 1e-16);
  ASSERT_EQ(loss.routing.size(), 2U);
  EXPECT_EQ(loss.routing[1].layer, 2);
  EXPECT_TRUE(at::equal(loss.routing[0].counts, at::tensor({32, 32, 0, 0, 0, 0}, at::kLong)));
  const double parts = loss.load_balancing.item<double>() + loss.router_z.item<double>();
  const double ce = loss.token_ce.sum().item<double>() / 32;
  EXPECT_NEAR(loss.loss.item<double>(), ce + parts, 1e-14);
  const ModelLoss plain = m.model->loss(tiny_ids(), {1.0 / 32, 0.0, 64}, *m.engine);
  EXPECT_NEAR(plain.loss.item<double>(), ce, 1e-14) << "an evaluation leaves the experts' losses out";
}

TEST(MoeModel, EveryParameterLearnsAndTheBiasDoesNot) {
  RunConfig config = moe_config();
  config.model.moe.scoring = RouterScoring::sigmoid;
  config.model.moe.selection_bias = true;
  config.model.moe.shared_experts = 2;
  config.model.moe.num_experts = 4;
  const TinyModel m = make(config);
  loss_of(m);
  for (const Unit& unit : m.model->units()) {
    for (const UnitParameter& p : unit.parameters) {
      if (p.name.ends_with("selection_bias")) {
        EXPECT_FALSE(p.tensor.requires_grad()) << p.name;
      } else {
        EXPECT_GT(p.tensor.grad().abs().max().item<double>(), 0.0) << p.name;
      }
    }
  }
}

// The bias sends every token of a layer to one expert; the gradients of the others are zero, not stale or missing.
TEST(MoeModel, OneExpertMayGetEverything) {
  RunConfig config = moe_config();
  config.model.moe.selection_bias = true;
  config.model.moe.top_k = 1;
  const TinyModel m = make(config);
  loss_of(m);
  {
    const c10::NoGradGuard no_grad;
    m.parameter("blocks.1.mlp.selection_bias")[4] = 100.0;
  }
  const ModelLoss loss = loss_of(m);
  EXPECT_TRUE(at::equal(loss.routing[1].counts, at::tensor({0, 0, 0, 0, 32, 0}, at::kLong)));
  const at::Tensor grad = m.parameter("blocks.1.mlp.experts.down.weight").grad();
  EXPECT_GT(grad[4].abs().max().item<double>(), 0.0);
  EXPECT_EQ(grad.index_select(0, at::tensor({0, 1, 2, 3, 5}, at::kLong)).abs().max().item<double>(), 0.0);
}

TEST(MoeModel, ACacheGivesTheLogitsOfTheWhole) {
  RunConfig config = moe_config();
  config.model.moe.shared_experts = 1;
  config.model.moe.groups = 3;
  config.model.moe.top_groups = 1;
  const TinyModel m = make(config);
  const c10::NoGradGuard no_grad;
  const at::Tensor whole = m.logits(tiny_ids());
  DecodeCache cache;
  std::vector<at::Tensor> parts = {m.model->logits(tiny_ids().narrow(1, 0, 5), *m.engine, &cache)};
  for (std::int64_t t = 5; t < 16; ++t) {
    parts.push_back(m.model->logits(tiny_ids().narrow(1, t, 1), *m.engine, &cache));
  }
  EXPECT_LT(largest_difference(at::cat(parts, 1), whole), 1e-12);
}

TEST(MoeModel, RouterInFp32RoundsOnlyThere) {
  RunConfig config = moe_config();
  config.precision = Precision::bf16;
  const TinyModel automatic = make(config);
  config.model.moe.router_precision = RouterPrecision::fp32;
  const TinyModel wide = make(config);
  const double difference = largest_difference(automatic.logits(tiny_ids()), wide.logits(tiny_ids()));
  EXPECT_LT(difference, 0.2);
  loss_of(wide);
  EXPECT_GT(wide.parameter("blocks.0.mlp.router.weight").grad().abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace norma
