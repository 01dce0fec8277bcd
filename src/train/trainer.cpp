#include "norma/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/eval/tasks.h"
#include "norma/record/run_folder.h"
#include "norma/train/checkpointing.h"

#include "parameter_metrics.h"
#include "routing_metrics.h"
#include "step_trace.h"

namespace norma {
namespace {

constexpr std::size_t kSpeedWindow = 20;  // steps

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// 0.00031234 -> "3.12e-04"
std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2e", value);
  return text;
}

}  // namespace

Trainer::Trainer(const RunPlan& plan, TrainerParts parts, TrainState start)
    : plan_(plan),
      parts_(std::move(parts)),
      state_(std::move(start)),
      step_({.model = parts_.model,
             .runner = parts_.engine,
             .engine = parts_.engine,
             .optimizer = parts_.optimizer,
             .peers = parts_.world},
            step_options(plan)) {}

Trainer::~Trainer() = default;

RunSummary Trainer::run(const std::atomic<bool>& stop) {
  started_ = std::chrono::steady_clock::now();
  seconds_before_ = state_.seconds;
  parts_.stream.seek(state_.position);
  saved_step_ = state_.step;
  const std::int64_t evaluated_before = state_.evaluated_step;
  bool evaluated = false;
  try {
    evaluated = take_steps(stop);
  } catch (const DivergedError&) {
    finish_save();  // the save of an earlier step; every rank comes here
    throw;
  }
  if (tracing()) write_trace();
  progress_.finish();
  if (saved_step_ != state_.step) save();
  finish_save();
  summary_.outcome = state_.step >= plan_.max_steps && evaluated ? Outcome::finished : Outcome::stopped;
  state_.seconds = seconds_before_ + seconds_since(started_);
  summary_.state = state_;
  summary_.steps_here = steps_here_;
  summary_.changed = steps_here_ > 0 || state_.evaluated_step != evaluated_before;
  return summary_;
}

// Trains until the end of the run or a stop. False when a stop cut a validation short.
bool Trainer::take_steps(const std::atomic<bool>& stop) {
  const std::int64_t last = std::min(plan_.max_steps, plan_.config.train.stop_at.value_or(plan_.max_steps));
  const std::int64_t evaluated_before = state_.evaluated_step;
  bool evaluated = evaluate(stop), stopping = !evaluated;
  if (state_.evaluated_step != evaluated_before) saved_step_ = -1;  // the checkpoint does not know of it
  while (state_.step < last && !stopping) {
    trace_around(state_.step + 1);
    stopping = !one_step(stop);
    evaluated = evaluate(stop);
    stopping = stopping || !evaluated;
    if (due(plan_.config.parallel.check_replicas_every)) check_replicas(parts_.engine, parts_.world, state_.step);
    if (due(plan_.config.checkpoint.every)) save();
  }
  return evaluated;
}

bool Trainer::one_step(bool stop) {
  const auto start = std::chrono::steady_clock::now();
  const TokenBatch batch = next_batch();
  const at::Tensor ids = at::tensor(batch.ids, at::kLong).view({batch.size, batch.sequence_length}).to(parts_.device);
  const double learning_rate = plan_.learning_rate(state_.step + 1, batch.next.tokens);
  parts_.world.set_step(state_.step + 1);
  const StepResult result = step_.run(ids, learning_rate, state_.step + 1, signals(stop));
  const StepFigures& figures = result.figures;
  measure(seconds_since(start));
  if (saving_ && figures.signals.save_written == parts_.world.size()) finish_save();
  state_.step += 1;
  state_.position = batch.next;
  const bool best = state_.best_loss == 0.0 || figures.cross_entropy < state_.best_loss;
  if (best) state_.best_loss = figures.cross_entropy;
  state_.final_loss = figures.cross_entropy;
  const MetricsConfig& metrics = plan_.config.metrics;
  if (due(metrics.every) || due(metrics.parameters_every)) write_step_metrics(result, learning_rate);
  show_progress(figures, learning_rate);
  return figures.signals.stop_requested == 0.0;
}

RankSignals Trainer::signals(bool stop) const {
  return {.stop_requested = stop ? 1.0 : 0.0, .save_written = saving_ && saving_->written() ? 1.0 : 0.0};
}

// The first step of a process also allocates what the later ones use.
void Trainer::measure(double seconds) {
  if (++steps_here_ == 1) return;
  recent_seconds_.push_back(seconds);
  if (recent_seconds_.size() > kSpeedWindow) recent_seconds_.erase(recent_seconds_.begin());
  if (tracing()) return;
  state_.throughput.seconds += seconds;
  state_.throughput.tokens += plan_.tokens_per_step;
}

bool Trainer::tracing() const {
  return trace_ && trace_->running();
}

// Called before every step.
void Trainer::trace_around(std::int64_t step) {
  const MetricsConfig& metrics = plan_.config.metrics;
  if (metrics.trace_steps == 0) return;
  if (step == metrics.trace_from) {
    trace_ = std::make_unique<StepTrace>(parts_.device.is_cuda());
    trace_->start();
  }
  if (step == metrics.trace_from + metrics.trace_steps && trace_) write_trace();
}

void Trainer::write_trace() {
  const fs::path file = trace_file(parts_.checkpoints, parts_.world.rank());
  trace_->stop(file);
  log_info("trace in " + file.string());
}

// Bad data that is found under way must not cost what was trained before it.
TokenBatch Trainer::next_batch() {
  try {
    return parts_.stream.next();
  } catch (const DataError&) {
    if (parts_.world.size() == 1 && saved_step_ != state_.step && state_.step > 0) {
      save();
      finish_save();
      log_info(cat("saved step ", state_.step, " before the bad data"));
    }
    throw;
  }
}

double Trainer::recent_tokens_per_second() const {
  if (recent_seconds_.empty()) return 0.0;
  const double seconds = std::accumulate(recent_seconds_.begin(), recent_seconds_.end(), 0.0);
  return static_cast<double>(plan_.tokens_per_step) * static_cast<double>(recent_seconds_.size()) / seconds;
}

void Trainer::write_step_metrics(const StepResult& result, double learning_rate) {
  const StepFigures& figures = result.figures;
  const double tokens = static_cast<double>(state_.position.tokens), speed = recent_tokens_per_second();
  Metrics metrics = {{metrics::kTrainLoss, figures.cross_entropy},
                     {metrics::kTrainPerplexity, std::exp(figures.cross_entropy)}};
  if (plan_.config.train.z_loss != 0.0) metrics.emplace_back(metrics::kZLoss, figures.z_loss);
  add_routing_metrics(figures, metrics);
  metrics.emplace_back(metrics::kGradNorm, figures.grad_norm);
  metrics.emplace_back(metrics::kLearningRate, learning_rate);
  metrics.emplace_back(metrics::kTotalTokens, tokens);
  const double gflops = tokens * plan_.cost.flops_olmo / 1e9;
  metrics.emplace_back(metrics::kTotalGflops, gflops);
  metrics.emplace_back(metrics::kLogTotalGflops, std::log(gflops));
  if (speed > 0.0) {
    metrics.emplace_back(metrics::kDeviceTokensPerSecond, speed / parts_.world.size());
    metrics.emplace_back(metrics::kDeviceBatchesPerSecond, speed / static_cast<double>(plan_.tokens_per_step));
  }
  if (speed > 0.0 && parts_.world.size() > 1) {
    metrics.emplace_back(metrics::kTokensPerSecond, speed);
    metrics.emplace_back(metrics::kCommunicationWait, waited_per_step());
  }
  if (due(plan_.config.metrics.parameters_every)) {
    add_parameter_metrics(parts_.engine, parts_.optimizer, parts_.world, result.decision.clip, metrics);
  }
  if (parts_.metrics != nullptr) parts_.metrics->write(state_.step, metrics);
}

// Seconds for which this rank's main thread waited for collectives: the mean over the steps of this process.
double Trainer::waited_per_step() const {
  Seconds waited{0};
  for (const Group* group : parts_.world.groups()) waited += group->traffic().waited;
  return waited.count() / static_cast<double>(steps_here_);
}

void Trainer::show_progress(const StepFigures& figures, double learning_rate) {
  if (!parts_.world.is_first()) return;
  if (!progress_.on_terminal() && state_.step != 1 && !due(plan_.config.metrics.console_every)) return;
  const double speed = recent_tokens_per_second();
  std::string line = cat("step ", state_.step, "/", plan_.max_steps, "  loss ", fixed(figures.cross_entropy, 4),
                         "  lr ", scientific(learning_rate), "  grad norm ", fixed(figures.grad_norm, 3));
  if (speed > 0.0) {
    const double left = static_cast<double>(plan_.max_steps - state_.step) * static_cast<double>(plan_.tokens_per_step);
    line += cat("  ", human_count(speed), " tokens/s  ETA ", human_seconds(left / speed));
  }
  progress_.update(line);
}

bool Trainer::evaluate(const std::atomic<bool>& stop) {
  const EvalConfig& config = plan_.config.eval;
  const bool at_end = state_.step == plan_.max_steps;
  if (config.every == 0 || parts_.evaluation.empty() || state_.step == 0 || state_.evaluated_step == state_.step)
    return true;
  if (!due(config.every) && !at_end) return true;
  const EvaluationOptions options{parts_.device, plan_.config.train.loss_chunk,
                                  [&](const std::string& what, std::int64_t done, std::int64_t total) {
                                    if (progress_.on_terminal() && parts_.world.is_first()) {
                                      progress_.update(cat("evaluating ", what, " ", done, "/", total));
                                    }
                                    return !stop;
                                  }};
  const EvaluationResult result =
      norma::evaluate(parts_.model, parts_.engine, parts_.evaluation, config, parts_.world, options);
  if (!result.complete) return false;
  state_.evaluated_step = state_.step;
  state_.validation.clear();
  for (const SetResult& set : result.sets) state_.validation.emplace_back(set.label, set.by_instance.cross_entropy);
  if (parts_.metrics != nullptr) parts_.metrics->write(state_.step, metrics_of(result));
  show_evaluation(result);
  return true;
}

void Trainer::show_evaluation(const EvaluationResult& result) const {
  std::vector<std::string> sets, tasks;
  for (const SetResult& set : result.sets) sets.push_back(cat(set.label, " ", fixed(set.by_instance.cross_entropy, 4)));
  for (const TaskResult& task : result.tasks) {
    tasks.push_back(cat(task.name, " ", fixed(task.primary().value, 4), " ", metric_name(task.metric)));
  }
  if (!sets.empty()) {
    log_info(cat("validation at step ", state_.step, ": ", join(sets, ", "), " nats per token"));
  }
  if (!tasks.empty()) log_info(cat("tasks at step ", state_.step, ": ", join(tasks, ", ")));
}

void Trainer::save() {
  finish_save();
  // A replica that went wrong must not become the newest checkpoint.
  const std::int64_t check_every = plan_.config.parallel.check_replicas_every;
  if (check_every > 0 && !due(check_every)) check_replicas(parts_.engine, parts_.world, state_.step);
  state_.seconds = seconds_before_ + seconds_since(started_);
  saving_ = save_training(parts_.checkpoints, plan_, state_, parts_.engine, parts_.optimizer, parts_.world,
                          parts_.data_fingerprint);
  saved_step_ = state_.step;
  if (!plan_.config.checkpoint.background) finish_save();
}

void Trainer::finish_save() {
  if (!saving_) return;
  const auto ending = std::move(saving_);
  ending->finish();
}

}  // namespace norma
