// The training loop: steps, metrics, validation, checkpoints, until the run's end or a request to stop.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/log.h"
#include "norma/checkpoint/state.h"
#include "norma/data/batch_stream.h"
#include "norma/eval/evaluation.h"
#include "norma/parallel/world.h"
#include "norma/train/metrics.h"
#include "norma/train/run_plan.h"
#include "norma/train/train_step.h"

namespace norma {

// Where a run stands. Together with weights and optimizer state it is all that resuming needs.
struct TrainState {
  std::int64_t step = 0;
  Position position;
  std::int64_t evaluated_step = -1;  // validation of this step is already in the metrics
  double best_loss = 0.0;            // lowest training cross-entropy so far; 0 before the first step
  double final_loss = 0.0;           // of the last step
  std::vector<std::pair<std::string, double>> validation;  // label -> cross-entropy, of the last evaluation
};

// What the loop works on; all outlive the trainer.
struct TrainerParts {
  Transformer& model;
  ShardEngine& engine;
  AdamW& optimizer;
  World& world;
  BatchStream& stream;
  MetricsWriter* metrics;  // null on ranks other than the first
  const EvaluationInput& evaluation;
  at::Device device;
  fs::path checkpoints;  // folder that receives step-N/
  std::string data_fingerprint;
};

class StepTrace;

enum class Outcome { finished, stopped };

// How a run ended, for summary.json.
struct RunSummary {
  Outcome outcome = Outcome::finished;
  TrainState state;
  std::int64_t steps_here = 0;  // taken by this process
  bool changed = false;         // this process took a step or finished a validation
  double seconds = 0.0;         // of this process' loop
  double tokens_per_second = 0.0;
};

class Trainer {
 public:
  Trainer(const RunPlan& plan, TrainerParts parts, TrainState start);
  ~Trainer();

  // Runs to the end, or until `stop` becomes true: then the step in progress is finished and saved.
  RunSummary run(const std::atomic<bool>& stop);

 private:
  TokenBatch next_batch();
  bool take_steps(const std::atomic<bool>& stop);
  bool one_step(bool stop);  // false when any rank was asked to stop
  void write_step_metrics(const StepResult& result, double learning_rate);
  void show_progress(const StepResult& result, double learning_rate);
  bool evaluate(const std::atomic<bool>& stop);  // false when it was cut short
  void show_evaluation(const EvaluationResult& result) const;
  void save();
  void finish_save();
  bool due(std::int64_t every) const { return every > 0 && state_.step % every == 0; }
  void trace_around(std::int64_t step);
  void write_trace();
  double tokens_per_second() const;
  double waited_per_step() const;

  const RunPlan& plan_;
  TrainerParts parts_;
  TrainState state_;
  TrainStep step_;
  ProgressLine progress_;
  RunSummary summary_;
  std::vector<double> recent_seconds_;  // of the last steps, without the first
  std::int64_t steps_here_ = 0;         // of this process
  std::int64_t saved_step_ = -1;
  std::unique_ptr<StepTrace> trace_;
  std::unique_ptr<CheckpointSave> saving_;  // being written in the background
};

}  // namespace norma
