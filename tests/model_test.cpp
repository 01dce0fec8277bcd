// Parity with the reference implementations, and what must hold for any placement.
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "norma/model/init.h"
#include "norma/model/parameters.h"
#include "norma/model/transformer.h"

#include "support/fixture_model.h"
#include "support/fixtures.h"
#include "support/registration.h"

namespace norma {
namespace {

using testing::FixtureModel;

double relative(double got, double want) {
  return std::abs(got - want) / std::max(std::abs(want), 1e-300);
}

at::Tensor as_tensor(const Json& numbers) {
  return at::tensor(numbers.get<std::vector<double>>(), at::kDouble);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

void expect_gradients(const FixtureModel& f) {
  const Json& want = f.fixture.at("results");
  at::Tensor squares = at::zeros({}, at::kDouble);
  for (const auto& [name, tensor] : f.parameters) {
    const double norm = tensor.grad().norm().item<double>(), reference = want.at("grad_norms").at(name).get<double>();
    EXPECT_LE(std::abs(norm - reference), 1e-8 * reference) << "gradient norm of " << name;
    squares += tensor.grad().square().sum();
    const at::Tensor flat = tensor.grad().flatten();
    for (const Json& sample : want.at("grad_samples").at(name)) {
      const double got = flat[sample.at(0).get<std::int64_t>()].item<double>();
      EXPECT_LE(std::abs(got - sample.at(1).get<double>()), 1e-8 * reference) << name << " " << sample;
    }
  }
  EXPECT_LE(relative(squares.sqrt().item<double>(), want.at("grad_norm").get<double>()), 1e-8);
}

void parity_case(const std::filesystem::path& path) {
  if (!testing::is_dense(read_json(path, 1 << 24))) GTEST_SKIP() << "mixture of experts is not built yet";
  FixtureModel f(path);
  const Json& want = f.fixture.at("results");
  ASSERT_EQ(num_parameters(model_parameters(f.config, f.plan)), f.fixture.at("num_parameters").get<std::int64_t>());
  for (const Json& named : f.fixture.at("parameters")) {
    const auto found = f.parameters.find(named.at(0).get<std::string>());
    ASSERT_NE(found, f.parameters.end()) << named;
    EXPECT_EQ(found->second.sizes().vec(), named.at(1).get<std::vector<std::int64_t>>()) << named;
  }
  {
    const c10::NoGradGuard no_grad;
    const at::Tensor logits = f.model->logits(f.ids, *f.engine);  // [B, T, V]
    const double largest = logits.abs().max().item<double>();
    EXPECT_LE(largest_difference(logits[0][0], as_tensor(want.at("logits_first_position"))), 1e-9 * largest);
    EXPECT_LE(largest_difference(logits[-1][-1], as_tensor(want.at("logits_last_position"))), 1e-9 * largest);
    EXPECT_LE(relative(logits.abs().sum().item<double>(), want.at("logits_abs_sum").get<double>()), 1e-9);
  }
  for (const std::int64_t chunk : {1024, 5}) {
    f.engine->clear_gradients();
    const double tokens = static_cast<double>(f.ids.numel());
    const CrossEntropy ce = f.model->loss(f.ids, {1.0 / tokens, 0.0, chunk}, *f.engine);
    ce.loss.backward();
    EXPECT_LE(relative(ce.loss.item<double>(), want.at("loss").get<double>()), 1e-10);
    EXPECT_LE(relative(ce.token_ce.sum().item<double>() / tokens, want.at("ce_sum_over_numel").get<double>()), 1e-10);
    const double targets = static_cast<double>(f.ids.size(0) * (f.ids.size(1) - 1));
    EXPECT_LE(relative(ce.token_lse.square().sum().item<double>() / targets, want.at("mean_lse_squared").get<double>()),
              1e-10);
    expect_gradients(f);
  }
}

const bool kParity =
    testing::announce([] { testing::register_fixture_cases("ParityFixtures", "parity", &parity_case); });

}  // namespace
}  // namespace norma
