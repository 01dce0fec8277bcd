// The choice between the reference and the fused path of an op, and every fused path against the reference.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <regex>
#include <set>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "norma/base/error.h"
#include "norma/kernels/experts.h"
#include "norma/kernels/ops.h"

#include "support/gradcheck.h"
#include "support/kernel_path.h"

namespace norma {
namespace {

using testing::KernelPathScope;
using testing::wave;

// ---- The table of ops ----

// The names of the functions in `namespace ops` of a header of this room.
std::set<std::string> declared_ops(const std::string& header) {
  std::ifstream file(std::string(NORMA_SOURCE_DIR) + "/include/norma/kernels/" + header);
  static const std::regex kFunction("^[\\w:]+ (\\w+)\\(.*");
  std::set<std::string> names;
  bool inside = false;
  std::smatch match;
  for (std::string line; std::getline(file, line);) {
    if (line == "namespace ops {") inside = true;
    if (line == "}  // namespace ops") inside = false;
    if (inside && std::regex_match(line, match, kFunction)) names.insert(match[1]);
  }
  return names;
}

TEST(KernelPaths, TheTableNamesEveryOp) {
  std::set<std::string> declared = declared_ops("ops.h");
  declared.merge(declared_ops("experts.h"));
  declared.erase("prepared_linear");  // runs linear
  declared.erase("prepared_linears");
  std::set<std::string> listed;
  for (const KernelOp& op : kKernelOps) listed.emplace(op.name);
  EXPECT_EQ(declared, listed);
}

// ---- Fused paths against the reference ----

struct Case {
  std::string_view op;
  std::string what;
  TensorList inputs;  // in float64, rounded to the type before the call
  std::function<TensorList(const TensorList& inputs, at::ScalarType type)> run;
};

void add_norms(std::vector<Case>& cases) {
  const auto norm = [](const TensorList& in, at::ScalarType) { return TensorList{ops::rms_norm(in[0], in[1], 1e-5)}; };
  for (const std::int64_t width : {3, 15, 16, 90}) {
    cases.push_back({"rms_norm", cat("width ", width), {wave({2, 5, width}, 0.3), wave({width}, 0.2) + 1.5}, norm});
  }
  cases.push_back({"rms_norm", "one row", {wave({33}, 0.3), wave({33}, 0.2) + 1.5}, norm});
  cases.push_back({"rms_norm",
                   "heads of a projection",
                   {wave({2, 5, 90}, 0.3), wave({30}, 0.7) + 1.5},
                   [](const TensorList& in, at::ScalarType) {
                     const at::Tensor heads = in[0].narrow(-1, 30, 60).unflatten(-1, {2, 30});
                     return TensorList{ops::rms_norm(heads, in[1], 0.0)};
                   }});
}

void add_rotations(std::vector<Case>& cases) {
  for (const std::int64_t width : {2, 30, 64}) {
    cases.push_back({"rope",
                     cat("heads of ", width),
                     {wave({2, 5, 3 * width}, 0.3)},
                     [width](const TensorList& in, at::ScalarType type) {
                       const RopeTable table = make_rope_table(5, width, 100.0, type, at::kCPU);
                       const at::Tensor heads = in[0].narrow(-1, width, 2 * width).unflatten(-1, {2, width});
                       return TensorList{ops::rope(heads, table), ops::rope(heads.contiguous(), table)};
                     }});
  }
}

void add_activations(std::vector<Case>& cases) {
  for (const std::int64_t width : {1, 16, 45}) {
    cases.push_back({"swiglu",
                     cat("width ", width),
                     {wave({2, 5, 2 * width}, 0.3) * 3.0},
                     [](const TensorList& in, at::ScalarType) { return TensorList{ops::swiglu(in[0])}; }});
  }
}

// Keys and values are parts of one tensor, as the fused projection leaves them. Every width class of the loops, times
// that are no whole blocks, grouped heads.
void add_attention(std::vector<Case>& cases) {
  for (const std::int64_t width : {16, 32, 48, 64, 80, 96, 128}) {
    for (const std::int64_t time : {64, 65, 127, 200}) {
      const std::int64_t kv = time % 2 == 0 ? 2 : 4;
      cases.push_back({"attention",
                       cat("width ", width, ", time ", time),
                       {wave({2, time, 4, width}, 0.3) * 1.5, wave({2, time, 2 * kv, width}, 1.1) * 1.5},
                       [kv](const TensorList& in, at::ScalarType) {
                         const at::Tensor k = in[1].narrow(2, 0, kv), v = in[1].narrow(2, kv, kv);
                         return TensorList{ops::attention(in[0], k, v, true)};
                       }});
    }
  }
  for (const std::int64_t of_values : {32, 64}) {
    cases.push_back({"attention",
                     cat("width 48, of values ", of_values),
                     {wave({2, 70, 2, 48}, 0.3), wave({2, 70, 2, 48}, 1.1), wave({2, 70, 2, of_values}, 2.0)},
                     [](const TensorList& in, at::ScalarType) {
                       return TensorList{ops::attention(in[0], in[1], in[2], true, std::nullopt, 0.3)};
                     }});
  }
}

void add_experts(std::vector<Case>& cases) {
  const auto route = [&](const char* what, const RouterRule& rule) {
    cases.push_back(
        {"route", what, {wave({37, 6}, 0.4) * 2.0, wave({6}, 0.9) * 0.3}, [rule](const TensorList& in, at::ScalarType) {
           const Routing r = ops::route(in[0], in[1].detach(), rule);
           return TensorList{r.experts, r.weights, r.balance, r.z, r.counts, r.entropy};
         }});
  };
  route("softmax", {2, false, false, 1.0, 1, 1, false});
  route("sigmoid in groups", {3, true, true, 2.5, 3, 2, true});
  route("every expert", {6, false, false, 1.0, 1, 1, false});

  const at::Tensor t = at::arange(150, at::kLong);  // one expert has no token, and each has another number of them
  const at::Tensor chosen = at::stack({t.remainder(5).clamp_max(1) * 3, t.remainder(7).eq(0).to(at::kLong)}, 1);
  const auto order_of = [](const at::Tensor& experts) {
    return ops::order_by_expert(experts, at::bincount(experts.flatten(), {}, 5));
  };
  for (const std::int64_t tokens : {0, 5, 150}) {
    const at::Tensor experts = chosen.narrow(0, 0, tokens);
    cases.push_back({"order_by_expert", cat(tokens, " tokens"), {}, [=](const TensorList&, at::ScalarType) {
                       const ExpertOrder order = order_of(experts);
                       return TensorList{order.pairs, order.rows, order.ends};
                     }});
    cases.push_back({"expert_mlp",
                     cat(tokens, " tokens"),
                     {wave({tokens, 16}, 0.1), wave({5, 46, 16}, 0.7), wave({5, 16, 23}, 1.9), wave({tokens, 2}, 0.5)},
                     [=](const TensorList& in, at::ScalarType type) {
                       const at::Tensor weights = in[3].to(accumulate_type(type));
                       return TensorList{ops::expert_mlp(in[0], in[1], in[2], weights, order_of(experts))};
                     }});
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  add_norms(cases);
  add_rotations(cases);
  add_activations(cases);
  add_attention(cases);
  add_experts(cases);
  return cases;
}

// The results of a case, and after them the gradients of its inputs.
TensorList run_case(const Case& c, KernelPath path, at::ScalarType type, at::ScalarType rounded_to) {
  const KernelPathScope scope(path);
  TensorList leaves;
  for (const at::Tensor& input : c.inputs) {
    leaves.push_back(input.to(rounded_to).to(type).clone().set_requires_grad(true));
  }
  TensorList results = c.run(leaves, type), differentiable, weights;
  for (const at::Tensor& result : results) {
    if (!result.requires_grad()) continue;
    differentiable.push_back(result);
    weights.push_back(wave(result.sizes(), 0.9).to(result.scalar_type()));
  }
  for (at::Tensor& result : results) result = result.detach();
  if (differentiable.empty()) return results;
  for (const at::Tensor& grad : torch::autograd::grad(differentiable, leaves, weights, std::nullopt,
                                                      /*create_graph=*/false, /*allow_unused=*/true)) {
    if (grad.defined()) results.push_back(grad);
  }
  return results;
}

double error(const at::Tensor& got, const at::Tensor& want) {
  if (want.numel() == 0) return 0.0;
  const at::Tensor wide = want.to(at::kDouble);
  return (got.to(at::kDouble) - wide).abs().max().item<double>() / std::max(wide.abs().max().item<double>(), 1e-30);
}

// The fused path is hardly further from float64 than the reference in the same type.
TEST(KernelPaths, EveryFusedPathEqualsItsReference) {
  std::set<std::string_view> tested;
  for (const Case& c : all_cases()) {
    tested.insert(c.op);
    for (const auto& [type, rounding] : {std::pair{at::kFloat, 2e-6}, std::pair{at::kBFloat16, 8e-3}}) {
      SCOPED_TRACE(cat(c.op, ", ", c.what, ", ", at::toString(type)));
      const TensorList got = run_case(c, KernelPath::fused, type, type);
      const TensorList plain = run_case(c, KernelPath::reference, type, type);
      const TensorList want = run_case(c, KernelPath::reference, at::kDouble, type);
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(got[i].scalar_type(), plain[i].scalar_type()) << "result " << i;
        ASSERT_EQ(got[i].sizes(), want[i].sizes()) << "result " << i;
        const bool exact = !got[i].is_floating_point();
        EXPECT_TRUE(!exact || at::equal(got[i], plain[i])) << "result " << i;
        EXPECT_LE(error(got[i], want[i]), 2.0 * error(plain[i], want[i]) + rounding) << "result " << i;
      }
    }
  }
  for (const KernelOp& op : kKernelOps) EXPECT_EQ(tested.contains(op.name), op.cpu) << op.name;
}

TEST(KernelPaths, TheFusedNormKeepsZeroRows) {
  const KernelPathScope fused(KernelPath::fused);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor zero = at::zeros({2, 20}, type);
    EXPECT_TRUE(at::equal(ops::rms_norm(zero, at::ones({20}, type), 0.0), zero));
  }
}

TEST(KernelPaths, FusedAttentionIsTheSameOnAnyNumberOfThreadsAndKeepsNan) {
  const std::vector<Case> cases = all_cases();
  const auto attention = std::ranges::find(cases, std::string_view("attention"), &Case::op);
  const TensorList one = run_case(*attention, KernelPath::fused, at::kFloat, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(3);
  const TensorList three = run_case(*attention, KernelPath::fused, at::kFloat, at::kFloat);
  at::set_num_threads(threads);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i])) << "result " << i;
  const KernelPathScope fused(KernelPath::fused);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    at::Tensor q = at::ones({1, 70, 1, 16}, type);
    q[0][3][0][5] = std::nan("");
    EXPECT_TRUE(at::isnan(ops::attention(q, at::ones_like(q), at::ones_like(q), true)[0][3]).any().item<bool>());
  }
}

// ---- What a fused path does not support ----

struct Refusal {
  std::string_view op;
  std::string reason;  // a part of it
  std::function<at::Tensor()> run;
};

std::vector<Refusal> refusals() {
  const at::Tensor x = wave({1, 70, 2, 16}, 0.3).to(at::kFloat), gain = at::ones({16});
  const auto attend = [](const at::Tensor& t, bool causal, const std::optional<at::Tensor>& mask = std::nullopt) {
    return [=] { return ops::attention(t, t, t, causal, mask); };
  };
  const RopeTable table = make_rope_table(70, 16, 1e4, at::kFloat, at::kCPU);
  RopeTable adjacent = table;
  adjacent.pairs = RotaryPairs::adjacent;
  const RopeTable of_rows = table.of_rows(at::tensor({5}, at::kLong));
  return {
      {"rms_norm", "float32", [=] { return ops::rms_norm(x.to(at::kDouble), gain.to(at::kDouble), 0.0); }},
      {"rms_norm", "another type", [=] { return ops::rms_norm(x, gain.to(at::kBFloat16), 0.0); }},
      {"rms_norm", "evenly", [=] { return ops::rms_norm(x.transpose(1, 2), gain, 0.0); }},
      {"rms_norm", "rows are not dense", [=] { return ops::rms_norm(x.transpose(1, 3), at::ones({70}), 0.0); }},
      {"rope", "adjacent", [=] { return ops::rope(x, adjacent); }},
      {"rope", "positions of their own", [=] { return ops::rope(x.narrow(1, 0, 1), of_rows); }},
      {"rope", "evenly", [=] { return ops::rope(x.transpose(1, 2), table.slice(0, 2)); }},
      {"swiglu", "dense", [=] { return ops::swiglu(x.transpose(1, 3)); }},
      {"attention", "float32", attend(x.to(at::kDouble), true)},
      {"attention", "causal", attend(x, false)},
      {"attention", "64 tokens", attend(x.narrow(1, 0, 63), true)},
      {"attention", "multiple of 16", attend(x.narrow(-1, 0, 15), true)},
      {"attention", "mask", attend(x, true, at::ones({1, 1, 70, 70}, at::kBool))},
  };
}

TEST(KernelPaths, AForcedPathRefusesWhatItDoesNotSupport) {
  const KernelPathScope fused(KernelPath::fused);
  for (const Refusal& refusal : refusals()) {
    try {
      refusal.run();
      ADD_FAILURE() << refusal.op << ": " << refusal.reason;
    } catch (const ConfigError& error) {
      const std::string text = error.what();
      EXPECT_TRUE(text.starts_with(cat("[run.kernels] fused: ", refusal.op, " "))) << text;
      EXPECT_NE(text.find(refusal.reason), std::string::npos) << text;
    }
  }
}

TEST(KernelPaths, AutoTakesTheReferenceThereAndSaysSoOnce) {
  for (const Refusal& refusal : refusals()) {
    const at::Tensor want = [&] {
      const KernelPathScope reference(KernelPath::reference);
      return refusal.run();
    }();
    std::vector<std::string> notes;
    const KernelPathScope automatic(KernelPath::automatic, [&](std::string_view note) { notes.emplace_back(note); });
    EXPECT_TRUE(at::equal(refusal.run(), want)) << refusal.op << ": " << refusal.reason;
    EXPECT_TRUE(at::equal(refusal.run(), want));
    ASSERT_EQ(notes.size(), 1U) << refusal.op << ": " << refusal.reason;
    EXPECT_TRUE(notes[0].starts_with(cat(refusal.op, " uses its reference instead of its fused kernel where ")))
        << notes[0];
    EXPECT_NE(notes[0].find(refusal.reason), std::string::npos) << notes[0];
  }
}

TEST(KernelPaths, NothingIsSaidOfWhatIsFusedOrHasNoFusedPath) {
  std::vector<std::string> notes;
  const auto note = [&](std::string_view text) { notes.emplace_back(text); };
  const at::Tensor x = wave({2, 70, 32}, 0.3).to(at::kFloat), gain = at::ones({32});
  for (const KernelPath path : {KernelPath::automatic, KernelPath::reference, KernelPath::fused}) {
    const KernelPathScope scope(path, note);
    ops::linear(ops::layer_norm(ops::swiglu(at::cat({x, x}, -1)), gain, 0.0), at::ones({5, 32}));
    ops::rms_norm(x, gain, 0.0);
  }
  EXPECT_TRUE(notes.empty()) << notes[0];
}

}  // namespace
}  // namespace norma
