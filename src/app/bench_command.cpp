// norma bench: a training step of any config on random tokens, measured. One JSON line.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/cuda.h>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/config/names.h"
#include "norma/model/init.h"
#include "norma/parallel/job.h"
#include "norma/parallel/sharding.h"
#include "norma/train/session.h"
#include "norma/train/train_step.h"

#include "checked_config.h"
#include "commands.h"
#include "version.h"

namespace norma {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchArguments {
  std::string config;
  std::vector<std::string> overrides;
  int steps = 10;
  int warmup = 3;
};

constexpr int kBatches = 4;  // different random batches, in turn

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2.0;
}

void wait_for(const at::Device& device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

struct Measurement {
  std::vector<double> step_ms;
  std::map<std::string, double> phase_ms;  // summed over measured steps
  double cpu_ms = 0.0;                     // process time per step
  double first_step_ms = 0.0;
  StepFigures last;
};

Measurement measure(const RunPlan& plan, Session& session, World& world, const BenchArguments& arguments) {
  Measurement m;
  Clock::time_point mark;
  bool measuring = false;
  StepOptions options = step_options(plan);
  options.after_phase = [&](std::string_view name) {
    wait_for(session.device);
    const Clock::time_point now = Clock::now();
    if (measuring) m.phase_ms[std::string(name)] += milliseconds(now - mark);
    mark = now;
  };
  TrainStep step({.model = *session.model,
                  .runner = *session.engine,
                  .engine = *session.engine,
                  .optimizer = *session.optimizer,
                  .peers = world},
                 options);
  std::vector<at::Tensor> batches;
  for (std::uint64_t seed = 0; seed < kBatches; ++seed) {
    batches.push_back(random_batch(plan, world, session.device, seed));
  }
  std::clock_t cpu = 0;
  for (int i = 0; i < arguments.warmup + arguments.steps; ++i) {
    measuring = i >= arguments.warmup;
    if (i == arguments.warmup) cpu = std::clock();
    const Clock::time_point start = mark = Clock::now();
    m.last = step.run(batches[static_cast<std::size_t>(i % kBatches)], plan.config.optim.lr, i + 1).figures;
    wait_for(session.device);
    const double ms = milliseconds(Clock::now() - start);
    if (i == 0) m.first_step_ms = ms;
    if (measuring) m.step_ms.push_back(ms);
  }
  m.cpu_ms = 1000.0 * static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC / arguments.steps;
  return m;
}

Json report(const RunPlan& plan, const Session& session, const World& world, const Measurement& m) {
  const double tokens = static_cast<double>(plan.tokens_per_step), ms = median(m.step_ms);
  const double best = *std::min_element(m.step_ms.begin(), m.step_ms.end());
  Json json;
  json["config"] = plan.config.run.name;
  json["preset"] = plan.config.norm.preset;
  json["version"] = version_text();
  json["device"] = session.device.str();
  json["threads"] = at::get_num_threads();
  json["processes"] = world.size();
  json["strategy"] = std::string(enum_name(effective_strategy(plan.config.parallel, world.size())));
  json["precision"] = std::string(enum_name(plan.config.precision));
  json["parameters"] = plan.cost.parameters;
  json["active_parameters"] = plan.cost.active_parameters;
  json["batch"] = plan.config.train.global_batch_size;
  json["micro_batches"] = plan.num_micro_batches;
  json["sequence_length"] = plan.config.model.sequence_length;
  json["tok_s_median"] = tokens / ms * 1e3;
  json["tok_s_best"] = tokens / best * 1e3;
  json["ms_median"] = ms;
  json["ms_best"] = best;
  json["ms_worst"] = *std::max_element(m.step_ms.begin(), m.step_ms.end());
  json["first_step_ms"] = m.first_step_ms;
  json["cpu_ms_per_step"] = m.cpu_ms;
  Json phases = Json::object();
  for (const auto& [name, sum] : m.phase_ms) phases[name] = sum / static_cast<double>(m.step_ms.size());
  json["phase_ms"] = phases;
  json["tflops_causal"] = plan.cost.flops_causal * tokens / ms / 1e9;
  json["tflops_full"] = plan.cost.flops_full * tokens / ms / 1e9;
  json["peak_memory_bytes"] = peak_memory(session.device);
  json["planned_memory_bytes"] = plan.memory.total();
  json["loss_last"] = m.last.cross_entropy;
  if (!m.last.routing.empty()) {
    json["load_balancing_loss_last"] = m.last.load_balancing_loss;
    json["router_z_loss_last"] = m.last.router_z_loss;
  }
  json["grad_norm_last"] = m.last.grad_norm;
  return json;
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "Measure a training step of a config on random tokens.");
  const auto arguments = std::make_shared<BenchArguments>();
  command->add_option("config", arguments->config, "YAML file")->required();
  command->add_option("overrides", arguments->overrides,
                      "key=value or @FILE (a recipe, for example), applied in order on top of the file");
  command->add_option("--steps", arguments->steps, "measured steps")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command->add_option("--warmup", arguments->warmup, "steps before those that are measured")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command->footer(
      "Example: norma bench configs/tiny.yaml precision=bf16 train.global_batch_size=8\n"
      "Prints one JSON line: tokens/s, milliseconds per phase, TFLOP/s (causal and full), peak memory.");
  command->callback([arguments] {
    const CheckedConfig checked = load_checked_config(arguments->config, arguments->overrides);
    const LaunchEnvironment launch = read_launch_environment();
    const at::Device device = start_runtime(checked.config.run, launch);
    const RunPlan plan = make_run_plan(checked.config, checked.norms, /*batches_per_epoch=*/0,
                                       mesh_degrees(checked.config.parallel, launch));
    const std::unique_ptr<World> world = make_world(checked.config.parallel, launch, device);
    Session session = make_session(checked.config, checked.norms, device, Purpose::training, *world);
    session.engine->fill(InitialWeights(checked.config, checked.norms));
    const Measurement measurement = measure(plan, session, *world, *arguments);
    if (world->is_first()) std::printf("%s\n", report(plan, session, *world, measurement).dump().c_str());
  });
}

}  // namespace norma
