#include <algorithm>
#include <chrono>
#include <cmath>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/random.h"
#include "norma/model/init.h"
#include "norma/record/run_folder.h"
#include "norma/train/session.h"
#include "norma/train/train_step.h"

namespace norma {
namespace {

constexpr int kFirstSteps = 2;  // they warm up
constexpr int kMeasuredSteps = 5;

// The median time of a step in seconds. A step waits for the device when it reads its loss and gradient norm; on a GPU
// its update may go on after it, and then counts in the next step.
double measure_step(const RunPlan& plan, at::Device device, World& world) {
  Session session = make_session(plan.config, plan.norms, device, Purpose::training, world);
  session.engine->fill(InitialWeights(plan.config, plan.norms));
  TrainStep step({.model = *session.model,
                  .runner = *session.engine,
                  .engine = *session.engine,
                  .optimizer = *session.optimizer,
                  .peers = world},
                 step_options(plan));
  const at::Tensor batch = random_batch(plan, world, device, /*seed=*/0);
  std::vector<double> seconds;
  for (int i = 0; i < kFirstSteps + kMeasuredSteps; ++i) {
    const auto start = std::chrono::steady_clock::now();
    step.run(batch, /*learning_rate=*/0.0, i + 1);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const auto middle = seconds.begin() + kFirstSteps + kMeasuredSteps / 2;
  std::nth_element(seconds.begin() + kFirstSteps, middle, seconds.end());
  return *middle;
}

}  // namespace

Duration measured_length(const RunPlan& plan, const fs::path& run_folder, at::Device device, World& world) {
  const Duration& minutes = plan.config.train.max_duration;
  const std::string asked = to_string(minutes);
  std::string steps = world.on_first([&]() -> std::string {
    const std::optional<MeasuredLength> known = read_length(run_folder);
    if (!known || known->asked != asked) return "";
    log_info(
        cat(asked, " are ", with_commas(known->steps), " steps, as ", (run_folder / kLengthFile).string(), " says"));
    return std::to_string(known->steps);
  });
  if (steps.empty()) {
    const double seconds = measure_step(plan, device, world);
    steps = world.on_first([&] {
      const MeasuredLength length{asked, std::max<std::int64_t>(std::llround(60.0 * minutes.value / seconds), 1),
                                  seconds};
      write_length(run_folder, length);
      log_info(cat("a step takes ", human_seconds(seconds), ": ", asked, " are ", with_commas(length.steps), " steps"));
      return std::to_string(length.steps);
    });
  }
  return {static_cast<double>(std::stoll(steps)), DurationUnit::steps};
}

at::Tensor random_batch(const RunPlan& plan, const Peers& peers, at::Device device, std::uint64_t seed) {
  const ModelConfig& model = plan.config.model;
  const std::int64_t rows = (plan.config.train.global_batch_size - peers.rank() + peers.size() - 1) / peers.size();
  at::Tensor ids = at::empty({rows, model.sequence_length}, at::kLong);
  auto* values = ids.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    values[i] =
        static_cast<std::int64_t>(uniform(seed, static_cast<std::uint64_t>(i)) * static_cast<double>(model.vocab_size));
  }
  return ids.to(device);
}

}  // namespace norma
