// A training run into and out of a checkpoint: weights, optimizer state and position.
#pragma once

#include <memory>
#include <optional>

#include "norma/base/file.h"
#include "norma/base/peers.h"
#include "norma/checkpoint/state.h"
#include "norma/train/trainer.h"

namespace norma {

// The checkpoint a run goes on from: the newest complete one of the run folder; else, when checkpoint.resume names a
// folder, that one; else none. Every byte is checked; broken ones are named in the log and passed over. Throws
// CheckpointError when all of the run folder's are broken, when the named one is missing or broken, or when a fresh
// start is asked for (none) in a folder that holds checkpoints. Rank 0 looks, every rank gets its answer.
std::optional<fs::path> find_resume(const CheckpointConfig& config, const fs::path& run_folder, Peers& peers);

// What a checkpoint says of a run in this state, without tensors and files.
Manifest training_manifest(const RunConfig& config, const TrainState& state, std::int64_t optimizer_steps,
                           const std::string& data_fingerprint);

// Starts to write <run_folder>/step-N; finish() publishes it.
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
