// Eight optimizer steps against the reference trainer, the parts of a step, and the schedules' published values.
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/optim/schedule.h"
#include "norma/train/train_step.h"

#include "support/fixture_model.h"
#include "support/fixtures.h"
#include "support/rank_model.h"
#include "support/registration.h"
#include "support/tiny_model.h"

namespace norma {
namespace {

using testing::FixtureModel;

constexpr double kTolerance = 1e-8;

void expect_relative(double got, double want, const std::string& what) {
  EXPECT_LE(std::abs(got - want), kTolerance * std::abs(want)) << what << ": got " << got << ", want " << want;
}

OptimConfig optim_of(const Json& text) {
  OptimConfig optim;
  optim.lr = text.at("lr").get<double>();
  optim.betas = text.at("betas").get<std::vector<double>>();
  optim.eps = text.at("eps").get<double>();
  optim.weight_decay = text.at("weight_decay").get<double>();
  return optim;
}

ScheduleConfig schedule_of(const Json& text) {
  ScheduleConfig schedule;
  schedule.units = ScheduleUnits::tokens;
  schedule.warmup = text.at("warmup").get<std::int64_t>();
  schedule.t_max = text.at("t_max").get<std::int64_t>();
  schedule.alpha_f = text.at("alpha_f").get<double>();
  schedule.warmup_min_lr = text.at("warmup_min_lr").get<double>();
  return schedule;
}

void training_case(const std::filesystem::path& path) {
  FixtureModel f(path);
  const OptimConfig optim = optim_of(f.fixture.at("optimizer"));
  const ScheduleConfig schedule = schedule_of(f.fixture.at("schedule"));
  const std::int64_t micro_batches = f.fixture.at("micro_batches").get<std::int64_t>();
  AdamW optimizer(f.engine->flat_units(), optim);
  StepOptions options;
  options.micro_batch = f.ids.size(0) / micro_batches;
  options.max_grad_norm = f.fixture.at("optimizer").at("max_grad_norm").get<double>();
  options.loss_chunk = 5;
  NoPeers alone;
  TrainStep train({.model = *f.model, .runner = *f.engine, .engine = *f.engine, .optimizer = optimizer, .peers = alone},
                  options);
  for (const Json& want : f.fixture.at("steps")) {
    const std::int64_t step = want.at("step").get<std::int64_t>();
    const double lr = learning_rate(schedule, optim.lr, {step, step * f.ids.numel(), 0, 0});
    const StepFigures got = train.run(f.ids, lr, step).figures;
    expect_relative(lr, want.at("lr").get<double>(), cat("lr of step ", step));
    expect_relative(got.cross_entropy, want.at("ce").get<double>(), cat("ce of step ", step));
    if (want.contains("load_balancing_loss")) {
      expect_relative(got.load_balancing_loss, want.at("load_balancing_loss").get<double>(),
                      cat("balance, step ", step));
      expect_relative(got.router_z_loss, want.at("router_z_loss").get<double>(), cat("router z, step ", step));
    }
    expect_relative(got.grad_norm, want.at("grad_norm").get<double>(), cat("gradient norm of step ", step));
  }
  for (const auto& [name, parameter] : f.parameters) {
    const at::Tensor tensor = parameter.value();
    expect_relative(tensor.abs().sum().item<double>(), f.fixture.at("final_abs_sum").at(name).get<double>(), name);
    const double largest = tensor.abs().max().item<double>();
    for (const Json& sample : f.fixture.at("final_samples").at(name)) {
      const double got = tensor.flatten()[sample.at(0).get<std::int64_t>()].item<double>();
      EXPECT_LE(std::abs(got - sample.at(1).get<double>()), kTolerance * largest) << name << " " << sample;
    }
  }
}

const bool kTraining =
    testing::announce([] { testing::register_fixture_cases("TrainingFixtures", "training", &training_case); });

// Watches every unit on its way to the engine.
class CountingRunner : public ForwardingRunner {
 public:
  using ForwardingRunner::ForwardingRunner;
  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override {
    ++units;
    return ForwardingRunner::run(unit, body, inputs);
  }
  int units = 0;
};

TEST(TrainStep, ARunnerMayWrapTheEngine) {
  RunConfig config = testing::tiny_config(3);
  config.parallel.recompute = Recompute::selective;
  testing::RankModel plain(config, {}), watched(config, {});
  CountingRunner counting(watched.engine);
  EXPECT_TRUE(counting.recomputes_inputs(watched.model.units()[1]));
  StepParts parts = watched.step_parts();
  const StepOptions options{.micro_batch = 1, .loss_chunk = 64};
  TrainStep plain_step(plain.step_parts(), options);
  TrainStep watched_step({parts.model, counting, parts.engine, parts.optimizer, parts.peers}, options);
  const at::Tensor ids = testing::tiny_ids();
  for (std::int64_t s = 1; s <= 3; ++s) {
    EXPECT_EQ(plain_step.run(ids, 1e-3, s).figures.grad_norm, watched_step.run(ids, 1e-3, s).figures.grad_norm);
  }
  EXPECT_EQ(counting.units, 3 * 2 * 5);  // steps, micro-batches, units
}

TEST(TrainStep, ItsPartsGiveTheWholeStep) {
  testing::RankModel whole(testing::tiny_config(3), {}), parted(testing::tiny_config(3), {});
  const StepOptions options{.max_grad_norm = 0.1, .loss_chunk = 64};
  TrainStep whole_step(whole.step_parts(), options), parted_step(parted.step_parts(), options);
  for (std::int64_t s = 1; s <= 3; ++s) {
    const StepResult want = whole_step.run(testing::tiny_ids(), 1e-3, s);
    const StepFigures figures =
        parted_step.gradients(testing::tiny_ids(), {.stop_requested = 1.0, .save_written = 0.0});
    const StepDecision decision = decide(figures, options.max_grad_norm);
    parted_step.update(decision, 1e-3);
    EXPECT_EQ(figures.cross_entropy, want.figures.cross_entropy);
    EXPECT_EQ(decision.clip, want.decision.clip);
    EXPECT_LT(decision.clip, 1.0);
    EXPECT_EQ(figures.signals.stop_requested, 1.0);
    EXPECT_EQ(want.figures.signals.stop_requested, 0.0);
  }
  EXPECT_FALSE(decide({.cross_entropy = 1.0, .grad_norm = std::nan("")}, 1.0).finite);
  EXPECT_FALSE(decide({.cross_entropy = INFINITY, .grad_norm = 1.0}, 1.0).finite);
}

// OLMo's dense run: 4,194,304 tokens a step, a warm-up of 2000 steps, t_max of 1e12 tokens.
TEST(Schedule, GivesTheValuesOfTheDenseRun) {
  ScheduleConfig schedule;
  schedule.units = ScheduleUnits::tokens;
  schedule.warmup = 8388608000;
  schedule.t_max = 1000000000000;
  schedule.warmup_min_lr = 0.0;
  const auto at = [&](std::int64_t step) { return learning_rate(schedule, 3e-4, {step, step * 4194304, 0, 0}); };
  EXPECT_DOUBLE_EQ(at(1), 1.5e-07);
  EXPECT_DOUBLE_EQ(at(1000), 1.5e-04);
  EXPECT_DOUBLE_EQ(at(2000), 3e-4);
  EXPECT_DOUBLE_EQ(at(10000), 2.992379012461563e-4);
  EXPECT_DOUBLE_EQ(at(119209), 1.6679438232131347e-4);
  EXPECT_NEAR(at(238418), 3.00000000039971e-5, 1e-19);
  EXPECT_DOUBLE_EQ(at(238419), 3e-5);
}

TEST(Schedule, ANullWarmupMinimumIsATenth) {
  ScheduleConfig schedule;
  schedule.units = ScheduleUnits::tokens;
  schedule.warmup = 10485760000;
  schedule.t_max = 5000000000000;
  const auto at = [&](std::int64_t step) { return learning_rate(schedule, 4e-4, {step, step * 4194304, 0, 0}); };
  EXPECT_NEAR(at(1), 4.0144e-05, 1e-15);
  EXPECT_DOUBLE_EQ(at(1250), 2.2e-4);
  EXPECT_DOUBLE_EQ(at(2500), 4e-4);
  EXPECT_DOUBLE_EQ(at(100000), 3.940659122312634e-4);
  EXPECT_DOUBLE_EQ(at(1192093), 4e-5);
}

TEST(Schedule, OtherKindsFollowTheirFormulas) {
  ScheduleConfig schedule;
  schedule.warmup = 10;
  const auto at = [&](std::int64_t step) { return learning_rate(schedule, 1.0, {step, 0, 110, 0}); };
  schedule.kind = ScheduleKind::linear;
  EXPECT_DOUBLE_EQ(at(10), 1.0);
  EXPECT_DOUBLE_EQ(at(60), 1.0 - 0.9 * 0.5);
  EXPECT_DOUBLE_EQ(at(200), 0.1);
  schedule.kind = ScheduleKind::inverse_sqrt;
  EXPECT_DOUBLE_EQ(at(40), 0.5);
  schedule.kind = ScheduleKind::constant;
  EXPECT_DOUBLE_EQ(at(100), 1.0);
  schedule.kind = ScheduleKind::wsd;
  schedule.decay = 20;
  EXPECT_DOUBLE_EQ(at(90), 1.0);
  EXPECT_DOUBLE_EQ(at(100), 0.55);
  EXPECT_DOUBLE_EQ(at(110), 0.1);
  EXPECT_DOUBLE_EQ(at(5), 0.55);
}

// The fused kernel may get the clip factor in float32, but only where the weights are float32, too.
TEST(AdamW, Float32UpdateFollowsTheFormulaAndLeavesFrozenPartsAlone) {
  const auto make = [](at::ScalarType type) {
    const at::Tensor w = at::linspace(-1, 1, 64, type), g = at::linspace(2, -3, 64, type);
    return std::vector<FlatUnit>{{w.clone(), g.clone(), 32, 60}};
  };
  OptimConfig config;
  config.lr = 1e-2;
  for (const double clip : {1.0, 0.37}) {
    const auto narrow = make(at::kFloat), wide = make(at::kDouble);
    AdamW a(narrow, config), b(wide, config);
    for (int step = 0; step < 3; ++step) {
      narrow[0].gradient.copy_(at::linspace(2, -3, 64));
      wide[0].gradient.copy_(at::linspace(2, -3, 64));
      a.step(1e-2, clip);
      b.step(1e-2, clip);
    }
    EXPECT_LT((narrow[0].master.to(at::kDouble) - wide[0].master).abs().max().item<double>(), 1e-6);
    const auto weight = [&](int i) { return wide[0].master[i].item<double>(); };
    const double at_start = -1.0 + 2.0 * 59 / 63;
    EXPECT_NEAR(weight(59), at_start + 3e-2, 1e-6);  // it does not decay: about 3 steps of the learning rate
    for (const int i : {60, 63}) EXPECT_NEAR(weight(i), -1.0 + 2.0 * i / 63, 1e-12) << "frozen";
  }
}

}  // namespace
}  // namespace norma
