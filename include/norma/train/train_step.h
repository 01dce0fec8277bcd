// One optimizer step, as OLMo takes it (olmo/train.py): micro-batches with one denominator, clip by the global norm,
// AdamW. Nothing is updated when the loss or a gradient is not finite.
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
  std::function<void(std::string_view)> after_phase;  // "forward", "backward", "optimizer": for measuring; may be empty
};

StepOptions step_options(const RunPlan& plan);

// Where the step's tokens went in one layer, over all ranks.
struct StepRouting {
  std::int64_t layer = 0;
  std::vector<double> tokens;  // of each expert; a token counts once for each of its experts
  double entropy = 0.0;        // of the router's scores, mean over tokens, in nats
};

struct StepResult {
  double cross_entropy = 0.0;        // sum over targets / tokens of the batch (OLMo's training CE), without the z-loss
  double z_loss = 0.0;               // weighted, likewise
  double load_balancing_loss = 0.0;  // weighted; means over micro-batches, ranks and layers with experts
  double router_z_loss = 0.0;        // likewise
  std::vector<StepRouting> routing;  // of the layers with experts
  double grad_norm = 0.0;            // before clipping
  double clip = 1.0;                 // factor on the gradients
};

class TrainStep {
 public:
  // All arguments outlive the step.
  TrainStep(Transformer& model, ShardEngine& engine, AdamW& optimizer, Peers& peers, StepOptions options);

  // ids [B, T]: this rank's part of the batch, on the model's device; `step` (from 1) is for messages. `signals` are
  // summed over ranks on the way, at no cost of their own. Throws DivergedError on every rank before any weight
  // changes.
  StepResult run(const at::Tensor& ids, double learning_rate, std::int64_t step,
                 std::vector<double>* signals = nullptr);

 private:
  void phase(std::string_view name) const;
  std::vector<double> backward_passes(const at::Tensor& ids, double scale);
  [[noreturn]] void report_divergence(std::int64_t step, const StepResult& result) const;

  Transformer& model_;
  ShardEngine& engine_;
  AdamW& optimizer_;
  Peers& peers_;
  StepOptions options_;
};

}  // namespace norma
