#include "norma/train/train_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

#include "step_sums.h"

namespace norma {

StepOptions step_options(const RunPlan& plan) {
  const TrainConfig& train = plan.config.train;
  return {plan.micro_batch, train.global_batch_size, train.max_grad_norm, train.z_loss, train.loss_chunk, {}};
}

TrainStep::TrainStep(Transformer& model, ShardEngine& engine, AdamW& optimizer, Peers& peers, StepOptions options)
    : model_(model), engine_(engine), optimizer_(optimizer), peers_(peers), options_(std::move(options)) {}

void TrainStep::phase(std::string_view name) const {
  if (options_.after_phase) options_.after_phase(name);
}

// Every rank makes as many passes as the one with the most instances: what it lacks is a pass of no weight. The
// experts' losses are those of each rank's micro-batches, averaged over these and then over ranks, as OLMo's data
// parallelism does. Returns this rank's sums, see StepSums.
std::vector<double> TrainStep::backward_passes(const at::Tensor& ids, double scale) {
  const std::int64_t rows = ids.size(0), ranks = peers_.size();
  const std::int64_t all = options_.global_batch == 0 ? rows * ranks : options_.global_batch;
  const std::int64_t most = (all + ranks - 1) / ranks, busy_ranks = std::min(all, ranks);
  const std::int64_t passes = (rows + options_.micro_batch - 1) / options_.micro_batch;
  const double auxiliary_scale = 1.0 / static_cast<double>(std::max<std::int64_t>(passes, 1) * busy_ranks);
  StepSums sums(model_.config(), ids.device());
  for (std::int64_t begin = 0; begin < most; begin += options_.micro_batch) {
    engine_.begin_micro_batch(begin + options_.micro_batch >= most);
    const bool counts = begin < rows;
    const at::Tensor part =
        counts ? ids.narrow(0, begin, std::min(options_.micro_batch, rows - begin)) : ids.narrow(0, 0, 1);
    const ModelLoss loss = model_.loss(
        part, {counts ? scale : 0.0, options_.z_loss, options_.loss_chunk, counts ? auxiliary_scale : 0.0}, engine_);
    phase("forward");
    loss.loss.backward();
    const c10::NoGradGuard no_grad;
    if (counts) sums.add(loss);
    phase("backward");
  }
  return sums.values();
}

StepResult TrainStep::run(const at::Tensor& ids, double learning_rate, std::int64_t step,
                          std::vector<double>* signals) {
  const std::int64_t instances = options_.global_batch == 0 ? ids.size(0) : options_.global_batch;
  const double scale = 1.0 / static_cast<double>(instances * ids.size(1));
  engine_.clear_gradients();
  std::vector<double> figures = backward_passes(ids, scale);
  engine_.finish_gradients();

  // One message for all that the ranks add up. Replicas hold equal gradients: one of them counts.
  const double squares = engine_.mesh().replica == 0 ? squared_norm(engine_.flat_units()) : 0.0;
  const auto place = static_cast<std::ptrdiff_t>(figures.size());
  figures.push_back(squares);
  if (signals != nullptr) figures.insert(figures.end(), signals->begin(), signals->end());
  peers_.sum(figures);
  if (signals != nullptr) signals->assign(figures.begin() + place + 1, figures.end());

  StepResult result;
  StepSums::read(figures, model_.config(), scale, options_.z_loss, result);
  result.grad_norm = std::sqrt(figures[static_cast<std::size_t>(place)]);
  if (!std::isfinite(result.cross_entropy) || !std::isfinite(result.grad_norm)) report_divergence(step, result);
  result.clip = clip_factor(result.grad_norm, options_.max_grad_norm);
  optimizer_.step(learning_rate, result.clip);
  engine_.refresh_compute();
  phase("optimizer");
  return result;
}

namespace {

// What this rank holds of every weight, then of every gradient, under numbers that all ranks share.
std::vector<std::pair<double, at::Tensor>> numbered_pieces(const ShardEngine& engine) {
  std::vector<std::pair<double, at::Tensor>> found;
  double number = 0;
  for (const bool weights : {true, false}) {
    for (std::size_t u = 0; u < engine.flat_units().size(); ++u) {
      const FlatUnit& flat = engine.flat_units()[u];
      const UnitLayout& unit = engine.layout().units[u];
      for (const TensorPiece& piece : pieces_of(unit, engine.shard(u))) {
        const auto index = static_cast<double>(piece.tensor - unit.tensors.data());
        found.emplace_back(number + index,
                           (weights ? flat.master : flat.gradient).narrow(0, piece.offset, piece.end - piece.begin));
      }
      number += static_cast<double>(unit.tensors.size());
    }
  }
  return found;
}

std::string name_of(const ShardEngine& engine, double number) {
  for (const char* kind : {"the weight ", "the gradient of "}) {
    for (const UnitLayout& unit : engine.layout().units) {
      const auto count = static_cast<double>(unit.tensors.size());
      if (number < count) return kind + unit.tensors[static_cast<std::size_t>(number)].name;
      number -= count;
    }
  }
  return "the activations (weights and gradients are finite)";
}

}  // namespace

void TrainStep::report_divergence(std::int64_t step, const StepResult& result) const {
  std::vector<double> first = {std::numeric_limits<double>::max()};
  for (const auto& [number, values] : numbered_pieces(engine_)) {
    if (at::isfinite(values).all().item<bool>()) continue;
    first[0] = number;
    break;
  }
  peers_.minimum(first);
  throw DivergedError(cat("[train] step ", step, ": loss ", result.cross_entropy, ", gradient norm ", result.grad_norm,
                          "; the first tensor that is not finite: ", name_of(engine_, first[0]),
                          ". No weight was changed. Try a lower optim.lr, a longer schedule.warmup, or resume from an "
                          "earlier checkpoint"));
}

}  // namespace norma
