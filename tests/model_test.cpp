// Parity with the reference implementations.
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
  for (const auto& [name, parameter] : f.parameters) {
    const at::Tensor grad = parameter.grad();
    const double norm = grad.norm().item<double>(), reference = want.at("grad_norms").at(name).get<double>();
    EXPECT_LE(std::abs(norm - reference), 1e-8 * reference) << "gradient norm of " << name;
    squares += grad.square().sum();
    const at::Tensor flat = grad.flatten();
    for (const Json& sample : want.at("grad_samples").at(name)) {
      const double got = flat[sample.at(0).get<std::int64_t>()].item<double>();
      EXPECT_LE(std::abs(got - sample.at(1).get<double>()), 1e-8 * reference) << name << " " << sample;
    }
  }
  EXPECT_LE(relative(squares.sqrt().item<double>(), want.at("grad_norm").get<double>()), 1e-8);
}

void expect_routing(const ModelLoss& got, const Json& want) {
  EXPECT_LE(relative(got.load_balancing.item<double>(), want.at("load_balancing_loss").get<double>()), 1e-10);
  EXPECT_LE(relative(got.router_z.item<double>(), want.at("router_z_loss").get<double>()), 1e-10);
  const auto counts = want.at("tokens_per_expert").get<std::vector<std::vector<std::int64_t>>>();
  ASSERT_EQ(got.routing.size(), counts.size());
  for (std::size_t l = 0; l < counts.size(); ++l) {
    EXPECT_EQ(got.routing[l].layer, static_cast<std::int64_t>(l));
    EXPECT_TRUE(at::equal(got.routing[l].counts, at::tensor(counts[l], at::kLong))) << "layer " << l;
  }
}

void parity_case(const std::filesystem::path& path) {
  FixtureModel f(path);
  const Json& want = f.fixture.at("results");
  ASSERT_EQ(num_parameters(model_parameters(f.config, f.plan)), f.fixture.at("num_parameters").get<std::int64_t>());
  for (const Json& named : f.fixture.at("parameters")) {
    const auto found = f.parameters.find(named.at(0).get<std::string>());
    ASSERT_NE(found, f.parameters.end()) << named;
    EXPECT_EQ(found->second.value().sizes().vec(), named.at(1).get<std::vector<std::int64_t>>()) << named;
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
    const ModelLoss ce = f.model->loss(f.ids, {1.0 / tokens, 0.0, chunk, 1.0}, *f.engine);
    ce.loss.backward();
    EXPECT_LE(relative(ce.loss.item<double>(), want.at("loss").get<double>()), 1e-10);
    EXPECT_LE(relative(ce.token_ce.sum().item<double>() / tokens, want.at("ce_sum_over_numel").get<double>()), 1e-10);
    const double targets = static_cast<double>(f.ids.size(0) * (f.ids.size(1) - 1));
    EXPECT_LE(relative(ce.token_lse.square().sum().item<double>() / targets, want.at("mean_lse_squared").get<double>()),
              1e-10);
    expect_gradients(f);
    if (!f.config.moe_layers().empty()) expect_routing(ce, want);
  }
}

const bool kParity =
    testing::announce([] { testing::register_fixture_cases("ParityFixtures", "parity", &parity_case); });

}  // namespace
}  // namespace norma
