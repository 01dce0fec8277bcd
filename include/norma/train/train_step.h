// One optimizer step, as OLMo takes it (olmo/train.py), in three parts: gradients of micro-batches under one
// denominator, a decision about them (are they finite, how far are they clipped by their global norm), and AdamW's
// update.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "norma/base/peers.h"
#include "norma/model/transformer.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/shard_engine.h"
#include "norma/train/run_plan.h"

namespace norma {

struct StepOptions {
  std::int64_t micro_batch = 1;   // instances per forward and backward; the last part of a batch may be short
  std::int64_t global_batch = 0;  // instances of the step over all ranks; 0: those given to run(), in one process
  double max_grad_norm = 1.0;     // 0: no clipping
  double z_loss = 0.0;
  std::int64_t loss_chunk = 1024;
  // Called after each "forward", "backward" and "optimizer" phase, for measuring. May be empty.
  std::function<void(std::string_view)> after_phase = {};
};

StepOptions step_options(const RunPlan& plan);

// What a step works on; all outlive it.
struct StepParts {
  Transformer& model;
  UnitRunner& runner;  // runs the model's units: the engine, or a runner that wraps it
  ShardEngine& engine;
  AdamW& optimizer;
  Peers& peers;
};

// What a rank alone knows and all ranks need: 1 where it holds, else 0. Their sum is the number of ranks.
struct RankSignals {
  double stop_requested = 0.0;  // the process was asked to stop
  double save_written = 0.0;    // the process has written its files of the save in progress
};

// Where the step's tokens went in one layer, over all ranks.
struct StepRouting {
  std::int64_t layer = 0;
  std::vector<double> tokens;  // of each expert; a token counts once for each of its experts
  double entropy = 0.0;        // of the router's scores, mean over tokens, in nats
};

// What the gradients' part of a step found, over all ranks. The gradients themselves are in the engine.
struct StepFigures {
  double cross_entropy = 0.0;        // sum over targets / tokens of the batch (OLMo's training CE), without the z-loss
  double z_loss = 0.0;               // weighted, likewise
  double load_balancing_loss = 0.0;  // weighted; means over micro-batches, ranks and layers with experts
  double router_z_loss = 0.0;        // likewise
  std::vector<StepRouting> routing = {};  // of the layers with experts
  double grad_norm = 0.0;                 // before clipping
  RankSignals signals = {};               // summed
};

// What is to be done with the gradients of a step.
struct StepDecision {
  bool finite = true;  // false: loss or gradients are not finite, and there must be no update
  double clip = 1.0;   // factor on the gradients
};

StepDecision decide(const StepFigures& figures, double max_grad_norm);

struct StepResult {
  StepFigures figures;
  StepDecision decision;
};

class TrainStep {
 public:
  TrainStep(const StepParts& parts, StepOptions options);

  // The whole step on ids [B, T], this rank's part of the batch, on the model's device; `step` (from 1) is for
  // messages. The ranks' signals are summed on the way, at no cost of their own. Throws DivergedError on every rank,
  // before any weight changes, when loss or gradients are not finite.
  StepResult run(const at::Tensor& ids, double learning_rate, std::int64_t step, const RankSignals& signals = {});

  // Its parts.
  StepFigures gradients(const at::Tensor& ids, const RankSignals& signals);
  void update(const StepDecision& decision, double learning_rate);

 private:
  [[noreturn]] void report_divergence(std::int64_t step, const StepFigures& figures) const;

  StepParts parts_;
  StepOptions options_;
};

}  // namespace norma
