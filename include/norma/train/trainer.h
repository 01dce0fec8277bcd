// The training loop: steps, metrics, validation, checkpoints, until the run's end or a request to stop.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/log.h"
#include "norma/data/batch_stream.h"
#include "norma/eval/evaluation.h"
#include "norma/parallel/world.h"
#include "norma/record/metrics.h"
#include "norma/record/summary.h"
#include "norma/train/checkpointing.h"
#include "norma/train/run_plan.h"
#include "norma/train/train_step.h"

namespace norma {

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

// How a run ended, for summary.json.
struct RunSummary {
  Outcome outcome = Outcome::finished;
  TrainState state;
  std::int64_t steps_here = 0;  // taken by this process
  bool changed = false;         // this process took a step or finished a validation
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
  RankSignals signals(bool stop) const;
  void measure(double seconds);
  void write_step_metrics(const StepResult& result, double learning_rate);
  void show_progress(const StepFigures& figures, double learning_rate);
  bool evaluate(const std::atomic<bool>& stop);  // false when it was cut short
  void show_evaluation(const EvaluationResult& result) const;
  void save();
  void finish_save();
  bool due(std::int64_t every) const { return every > 0 && state_.step % every == 0; }
  void trace_around(std::int64_t step);
  bool tracing() const;
  void write_trace();
  double recent_tokens_per_second() const;
  double waited_per_step() const;

  const RunPlan& plan_;
  TrainerParts parts_;
  TrainState state_;
  TrainStep step_;
  ProgressLine progress_;
  RunSummary summary_;
  std::vector<double> recent_seconds_;             // of the last steps of this process, without its first one
  std::int64_t steps_here_ = 0;                    // taken by this process
  std::chrono::steady_clock::time_point started_;  // when the loop of this process began
  double seconds_before_ = 0.0;                    // in the loops of earlier processes
  std::int64_t saved_step_ = -1;
  std::unique_ptr<StepTrace> trace_;
  std::unique_ptr<CheckpointSave> saving_;  // being written in the background
};

}  // namespace norma
