#include "norma/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>

#include "norma/base/text.h"
#include "norma/eval/perplexity.h"
#include "norma/train/checkpointing.h"

#include "parameter_metrics.h"

namespace norma {
namespace {

constexpr std::size_t kSpeedWindow = 20;  // steps

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

StepOptions step_options(const RunPlan& plan) {
  const TrainConfig& train = plan.config.train;
  return {plan.micro_batch, train.max_grad_norm, train.z_loss, train.loss_chunk, {}};
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
      step_(parts_.model, parts_.engine, parts_.optimizer, step_options(plan)) {}

RunSummary Trainer::run(const std::atomic<bool>& stop) {
  const auto start = std::chrono::steady_clock::now();
  const CheckpointConfig& checkpoint = plan_.config.checkpoint;
  const std::int64_t last = std::min(plan_.max_steps, plan_.config.train.stop_at.value_or(plan_.max_steps));
  parts_.stream.seek(state_.position);
  saved_step_ = state_.step;
  bool evaluated = evaluate(stop);  // a validation that a stop cut short
  while (state_.step < last && !stop) {
    one_step();
    evaluated = evaluate(stop);
    if (due(checkpoint.every)) save();
  }
  progress_.finish();
  if (saved_step_ != state_.step) save();
  summary_.outcome = state_.step >= plan_.max_steps && evaluated ? Outcome::finished : Outcome::stopped;
  summary_.state = state_;
  summary_.steps_here = steps_here_;
  summary_.seconds = seconds_since(start);
  summary_.tokens_per_second = tokens_per_second();
  return summary_;
}

void Trainer::one_step() {
  const auto start = std::chrono::steady_clock::now();
  const Batch batch = parts_.stream.next();
  const at::Tensor ids = at::tensor(batch.ids, at::kLong).view({batch.size, batch.sequence_length}).to(parts_.device);
  const double learning_rate = plan_.learning_rate(state_.step + 1, batch.next.tokens);
  const StepResult result = step_.run(ids, learning_rate, state_.step + 1);
  state_.step += 1;
  state_.position = batch.next;
  const bool best = state_.best_loss == 0.0 || result.cross_entropy < state_.best_loss;
  if (best) state_.best_loss = result.cross_entropy;
  state_.final_loss = result.cross_entropy;
  if (++steps_here_ > 1) recent_seconds_.push_back(seconds_since(start));
  if (recent_seconds_.size() > kSpeedWindow) recent_seconds_.erase(recent_seconds_.begin());
  const MetricsConfig& metrics = plan_.config.metrics;
  if (due(metrics.every) || due(metrics.parameters_every)) write_step_metrics(result, learning_rate);
  show_progress(result, learning_rate);
}

double Trainer::tokens_per_second() const {
  if (recent_seconds_.empty()) return 0.0;
  const double seconds = std::accumulate(recent_seconds_.begin(), recent_seconds_.end(), 0.0);
  return static_cast<double>(plan_.tokens_per_step) * static_cast<double>(recent_seconds_.size()) / seconds;
}

void Trainer::write_step_metrics(const StepResult& result, double learning_rate) {
  const double tokens = static_cast<double>(state_.position.tokens), speed = tokens_per_second();
  Metrics metrics = {{"train/CrossEntropyLoss", result.cross_entropy},
                     {"train/Perplexity", std::exp(result.cross_entropy)}};
  if (plan_.config.train.z_loss != 0.0) metrics.emplace_back("train/ZLoss", result.z_loss);
  metrics.emplace_back("optim/total_grad_norm", result.grad_norm);
  metrics.emplace_back("optim/learning_rate_group0", learning_rate);
  metrics.emplace_back("throughput/total_tokens", tokens);
  metrics.emplace_back("throughput/total_training_Gflops", tokens * plan_.cost.flops_full / 1e9);
  if (speed > 0.0) {
    metrics.emplace_back("throughput/device/tokens_per_second", speed);
    metrics.emplace_back("throughput/device/batches_per_second", speed / static_cast<double>(plan_.tokens_per_step));
  }
  if (due(plan_.config.metrics.parameters_every)) add_parameter_metrics(parts_.engine, parts_.optimizer, metrics);
  parts_.metrics.write(state_.step, metrics);
}

void Trainer::show_progress(const StepResult& result, double learning_rate) {
  if (!progress_.on_terminal() && state_.step != 1 && !due(plan_.config.metrics.console_every)) return;
  const double speed = tokens_per_second();
  std::string line = cat("step ", state_.step, "/", plan_.max_steps, "  loss ", fixed(result.cross_entropy, 4), "  lr ",
                         scientific(learning_rate), "  grad norm ", fixed(result.grad_norm, 3));
  if (speed > 0.0) {
    const double left = static_cast<double>(plan_.max_steps - state_.step) * static_cast<double>(plan_.tokens_per_step);
    line += cat("  ", human_count(speed), " tokens/s  ETA ", human_seconds(left / speed));
  }
  progress_.update(line);
}

bool Trainer::evaluate(const std::atomic<bool>& stop) {
  const EvalConfig& config = plan_.config.eval;
  const bool at_end = state_.step == plan_.max_steps;
  if (config.every == 0 || parts_.eval_sets.empty() || state_.step == 0 || state_.evaluated_step == state_.step)
    return true;
  if (!due(config.every) && !at_end) return true;
  Metrics metrics;
  std::vector<std::string> shown;
  std::vector<std::pair<std::string, double>> validation;
  for (const EvalSet& set : parts_.eval_sets) {
    PerplexityOptions options{
        config.batch_size, config.max_instances, plan_.config.train.loss_chunk, parts_.device, {}};
    options.progress = [&](std::int64_t, std::int64_t) { return !stop; };
    const Perplexity result = evaluate_perplexity(parts_.model, parts_.engine, *set.dataset, options);
    if (!result.complete) return false;
    metrics.emplace_back(cat("eval/", set.label, "/CrossEntropyLoss"), result.cross_entropy);
    metrics.emplace_back(cat("eval/", set.label, "/Perplexity"), result.perplexity());
    validation.emplace_back(set.label, result.cross_entropy);
    shown.push_back(cat(set.label, " ", fixed(result.cross_entropy, 4)));
  }
  state_.evaluated_step = state_.step;
  state_.validation = std::move(validation);
  parts_.metrics.write(state_.step, metrics);
  log_info(cat("validation at step ", state_.step, ": ", join(shown, ", "), " nats per token"));
  return true;
}

void Trainer::save() {
  save_training(parts_.checkpoints, plan_, state_, parts_.engine, parts_.optimizer);
  saved_step_ = state_.step;
}

}  // namespace norma
