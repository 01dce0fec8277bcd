// Saves a training run as a checkpoint and loads it again: weights, optimizer state and position in the data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/peers.h"
#include "norma/checkpoint/state.h"
#include "norma/data/batch_stream.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/shard_engine.h"
#include "norma/train/run_plan.h"

namespace norma {

// How fast a run trains: the time and the tokens of all its steps but the first one of each process and those that were
// traced. Evaluation and saving are left out. Summed over the processes that trained the run one after the other.
struct Throughput {
  double seconds = 0.0;
  std::int64_t tokens = 0;
  double tokens_per_second() const { return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0; }
};

// Where a run stands. Together with weights and optimizer state it is all that resuming needs.
struct TrainState {
  std::int64_t step = 0;
  Position position;
  std::int64_t evaluated_step = -1;  // validation of this step is already in the metrics
  double best_loss = 0.0;            // lowest training cross-entropy so far; 0 before the first step
  double final_loss = 0.0;           // of the last step
  Throughput throughput;
  double seconds = 0.0;  // in the training loop, over the processes that took part in the run one after the other
  std::vector<std::pair<std::string, double>> validation;  // label -> cross-entropy, of the last evaluation
};

// The checkpoint that a run goes on from: the newest complete one of the run folder; else the folder that
// checkpoint.resume names, if it names one; else none. Every byte is checked; broken checkpoints are named in the log
// and passed over. Throws CheckpointError when all checkpoints of the run folder are broken, when the named one is
// missing or broken, or when a fresh start is asked for (none) in a folder that holds checkpoints. Rank 0 looks, and
// every rank gets its answer.
std::optional<fs::path> find_resume(const CheckpointConfig& config, const fs::path& run_folder, Peers& peers);

// The manifest of a run in this state, without tensors and files.
Manifest training_manifest(const RunConfig& config, const TrainState& state, std::int64_t optimizer_steps,
                           const std::string& data_fingerprint);

// Starts to write <run_folder>/step-N, which finish() then publishes.
std::unique_ptr<CheckpointSave> save_training(const fs::path& run_folder, const RunPlan& plan, const TrainState& state,
                                              const ShardEngine& engine, const AdamW& optimizer, Peers& peers,
                                              const std::string& data_fingerprint);

// Fills engine and optimizer from what find_resume() gave. A checkpoint before the first step may hold weights alone:
// moments then start at zero. Throws CheckpointError; other data than the checkpoint's is a warning.
TrainState load_training(const fs::path& folder, const RunPlan& plan, ShardEngine& engine, AdamW& optimizer,
                         const std::string& data_fingerprint);

// Weights alone, for evaluation and sampling; every byte of the checkpoint is checked.
void load_weights(const fs::path& folder, ShardEngine& engine);

}  // namespace norma
