#include "norma/train/train_step.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

#include "step_sums.h"

namespace norma {

namespace {

// What the ranks add up in a step, in one message.
struct RankSums {
  HostSums passes;
  double squared_gradients = 0.0;
  RankSignals signals;

  template <class F>
  void visit(F&& f) {
    passes.visit(f);
    f(squared_gradients);
    f(signals.stop_requested);
    f(signals.save_written);
  }
};

void sum_over_ranks(RankSums& sums, Peers& peers) {
  std::vector<double> row;
  sums.visit(RowWriter{row});
  peers.sum(row);
  sums.visit(RowReader{row.data()});
}

// scale: one over the tokens of the batch.
StepFigures figures_of(const RankSums& sums, const ModelConfig& model, double scale, double z_weight) {
  StepFigures figures;
  figures.cross_entropy = sums.passes.cross_entropy * scale;
  figures.z_loss = sums.passes.squared_lse * scale * z_weight;
  figures.load_balancing_loss = sums.passes.load_balancing;
  figures.router_z_loss = sums.passes.router_z;
  const std::vector<std::int64_t> layers = model.moe_layers();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const HostSums::Layer& layer = sums.passes.layers[i];
    const double pairs = std::accumulate(layer.pairs.begin(), layer.pairs.end(), 0.0);
    const double entropy = layer.entropy * static_cast<double>(model.moe.top_k) / pairs;
    figures.routing.push_back({.layer = layers[i], .tokens = layer.pairs, .entropy = entropy});
  }
  figures.grad_norm = std::sqrt(sums.squared_gradients);
  figures.signals = sums.signals;
  return figures;
}

void end_phase(const StepOptions& options, std::string_view name) {
  if (options.after_phase) options.after_phase(name);
}

// Every rank makes as many passes as the one with the most instances: what it lacks is a pass of no weight. The
// experts' losses are those of each rank's micro-batches, averaged over these and then over ranks, as OLMo's data
// parallelism does. Returns this rank's sums.
HostSums run_passes(const StepParts& parts, const StepOptions& options, const at::Tensor& ids, double scale) {
  const std::int64_t rows = ids.size(0), ranks = parts.peers.size();
  const std::int64_t all = options.global_batch == 0 ? rows * ranks : options.global_batch;
  const std::int64_t most = (all + ranks - 1) / ranks, busy_ranks = std::min(all, ranks);
  const std::int64_t passes = (rows + options.micro_batch - 1) / options.micro_batch;
  const double auxiliary_scale = 1.0 / static_cast<double>(std::max<std::int64_t>(passes, 1) * busy_ranks);
  DeviceSums sums(parts.model.config(), ids.device());
  for (std::int64_t begin = 0; begin < most; begin += options.micro_batch) {
    parts.engine.begin_micro_batch(begin + options.micro_batch >= most);
    const bool counts = begin < rows;
    const at::Tensor part =
        counts ? ids.narrow(0, begin, std::min(options.micro_batch, rows - begin)) : ids.narrow(0, 0, 1);
    const ModelLoss loss = parts.model.loss(part,
                                            {.scale = counts ? scale : 0.0,
                                             .z_weight = options.z_loss,
                                             .chunk_tokens = options.loss_chunk,
                                             .auxiliary_scale = counts ? auxiliary_scale : 0.0},
                                            parts.runner);
    end_phase(options, "forward");
    loss.loss.backward();
    const c10::NoGradGuard no_grad;
    if (counts) sums.add(loss);
    end_phase(options, "backward");
  }
  return sums.read();
}

}  // namespace

StepOptions step_options(const RunPlan& plan) {
  const TrainConfig& train = plan.config.train;
  return {.micro_batch = plan.micro_batch,
          .global_batch = train.global_batch_size,
          .max_grad_norm = train.max_grad_norm,
          .z_loss = train.z_loss,
          .loss_chunk = train.loss_chunk};
}

StepDecision decide(const StepFigures& figures, double max_grad_norm) {
  return {.finite = std::isfinite(figures.cross_entropy) && std::isfinite(figures.grad_norm),
          .clip = clip_factor(figures.grad_norm, max_grad_norm)};
}

TrainStep::TrainStep(const StepParts& parts, StepOptions options) : parts_(parts), options_(std::move(options)) {}

StepResult TrainStep::run(const at::Tensor& ids, double learning_rate, std::int64_t step, const RankSignals& signals) {
  StepResult result;
  result.figures = gradients(ids, signals);
  result.decision = decide(result.figures, options_.max_grad_norm);
  if (!result.decision.finite) report_divergence(step, result.figures);
  update(result.decision, learning_rate);
  return result;
}

StepFigures TrainStep::gradients(const at::Tensor& ids, const RankSignals& signals) {
  const std::int64_t instances = options_.global_batch == 0 ? ids.size(0) : options_.global_batch;
  const double scale = 1.0 / static_cast<double>(instances * ids.size(1));
  parts_.engine.clear_gradients();
  RankSums sums;
  sums.passes = run_passes(parts_, options_, ids, scale);
  parts_.engine.finish_gradients();
  // Replicas hold equal gradients: one of them counts.
  sums.squared_gradients = parts_.engine.mesh().replica == 0 ? squared_norm(parts_.engine.flat_units()) : 0.0;
  sums.signals = signals;
  sum_over_ranks(sums, parts_.peers);
  return figures_of(sums, parts_.model.config(), scale, options_.z_loss);
}

void TrainStep::update(const StepDecision& decision, double learning_rate) {
  parts_.optimizer.step(learning_rate, decision.clip);
  parts_.engine.refresh_compute();
  end_phase(options_, "optimizer");
}

namespace {

// Weights have the numbers of their tensors, gradients those that follow.
std::string name_of(const ShardEngine& engine, double number) {
  const std::vector<const TensorSpan*> tensors = engine.layout().tensors();
  const auto count = static_cast<double>(tensors.size());
  if (number < count) return "the weight " + tensors[static_cast<std::size_t>(number)]->name;
  if (number < 2 * count) return "the gradient of " + tensors[static_cast<std::size_t>(number - count)]->name;
  return "the activations (weights and gradients are finite)";
}

}  // namespace

void TrainStep::report_divergence(std::int64_t step, const StepFigures& figures) const {
  const ShardEngine& engine = parts_.engine;
  const auto num_tensors = static_cast<double>(engine.layout().tensors().size());
  std::vector<double> first = {std::numeric_limits<double>::max()};
  const auto look_at = [&](const at::Tensor& values, double number) {
    if (number < first[0] && !at::isfinite(values).all().item<bool>()) first[0] = number;
  };
  for (const ShardPiece& piece : engine.pieces()) {
    const FlatUnit& flat = engine.flat_units()[piece.unit];
    const auto number = static_cast<double>(piece.number);
    look_at(values_of(piece, flat.master), number);
    look_at(values_of(piece, flat.gradient), num_tensors + number);
  }
  parts_.peers.minimum(first);
  throw DivergedError(cat("[train] step ", step, ": loss ", figures.cross_entropy, ", gradient norm ",
                          figures.grad_norm,
                          "; the first tensor that is not finite: ", name_of(parts_.engine, first[0]),
                          ". No weight was changed. Try a lower optim.lr, a longer schedule.warmup, or resume from an "
                          "earlier checkpoint"));
}

}  // namespace norma
