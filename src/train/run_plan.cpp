#include "norma/train/run_plan.h"

#include <algorithm>
#include <cmath>

#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/model/parameters.h"
#include "norma/optim/schedule.h"

namespace norma {

double RunPlan::learning_rate(std::int64_t step, std::int64_t tokens) const {
  return norma::learning_rate(config.schedule, config.optim.lr,
                              {.step = step, .tokens = tokens, .last_step = max_steps, .last_tokens = max_tokens});
}

namespace {

constexpr double kMostSteps = 4503599627370496.0;  // 2^52; check_length() says so when a config asks for more

void set_length(const Duration& duration, RunPlan& plan) {
  const double per_step = static_cast<double>(plan.tokens_per_step);
  switch (duration.unit) {
    case DurationUnit::steps:
      plan.max_steps = static_cast<std::int64_t>(duration.value);
      break;
    case DurationUnit::tokens:
      plan.max_steps = static_cast<std::int64_t>(std::ceil(duration.value / per_step));
      plan.max_tokens = static_cast<std::int64_t>(duration.value);
      return;
    case DurationUnit::epochs:
      plan.max_steps = static_cast<std::int64_t>(
          std::min(std::floor(duration.value * static_cast<double>(plan.batches_per_epoch)), kMostSteps));
      break;
    case DurationUnit::minutes:
      break;
  }
  plan.max_tokens = plan.max_steps * plan.tokens_per_step;
}

// Checks a length in epochs, which is known only with the data; validate() checks those in other units.
Problems check_length(const RunPlan& plan) {
  constexpr double kMost = 9007199254740992.0;  // 2^53: steps and tokens are also counted in doubles
  const Duration& duration = plan.config.train.max_duration;
  const double steps = duration.unit == DurationUnit::epochs
                           ? duration.value * static_cast<double>(std::max<std::int64_t>(plan.batches_per_epoch, 1))
                           : 0.0;
  if (steps * static_cast<double>(plan.tokens_per_step) <= kMost) return {};
  return {{"train.max_duration", 0,
           cat("must not pass 2^53 tokens; ", to_string(duration), " of ", with_commas(plan.batches_per_epoch),
               " steps of ", with_commas(plan.tokens_per_step), " tokens do")}};
}

}  // namespace

RunPlan make_run_plan(const RunConfig& config, const NormPlan& norms, std::int64_t batches_per_epoch,
                      const Degrees& degrees) {
  const int world_size = degrees.world_size();
  RunPlan plan;
  plan.config = config;
  plan.norms = norms;
  plan.cost = model_cost(config.model, norms);
  plan.tokens_per_step = config.train.global_batch_size * config.model.sequence_length;
  const std::int64_t instances = (config.train.global_batch_size + world_size - 1) / world_size;
  plan.micro_batch = std::min(config.train.micro_batch_size.value_or(instances), instances);
  plan.num_micro_batches = (instances + plan.micro_batch - 1) / plan.micro_batch;
  const Layout layout = model_layout(model_parameters(config.model, norms), config.optim, config.train.freeze);
  plan.sharding = {.layout = layout,
                   .degrees = degrees,
                   .policy = engine_policy(config.parallel, world_size, layout),
                   .precision = config.precision,
                   .micro_batches = plan.num_micro_batches};
  plan.memory = rank_memory(plan.sharding, activation_bytes(config, norms, plan.micro_batch));
  plan.batches_per_epoch = batches_per_epoch;
  set_length(config.train.max_duration, plan);
  return plan;
}

Problems check_schedule(const RunPlan& plan) {
  const ScheduleConfig& s = plan.config.schedule;
  if (Problems too_long = check_length(plan); !too_long.empty()) return too_long;
  const std::int64_t end = s.t_max.value_or(s.units == ScheduleUnits::tokens ? plan.max_tokens : plan.max_steps);
  if (end == 0 || s.kind != ScheduleKind::wsd || s.warmup + s.decay <= end) return {};
  return {{"schedule.decay", 0,
           cat("wsd needs warmup + decay within the run: ", with_commas(s.warmup), " + ", with_commas(s.decay),
               " exceeds its ", with_commas(end), " ", enum_name(s.units))}};
}

}  // namespace norma
