// A training run into and out of a checkpoint: weights, optimizer state and position.
#pragma once

#include <optional>

#include "norma/base/file.h"
#include "norma/train/trainer.h"

namespace norma {

// The checkpoint a run goes on from: the newest complete one of the run folder; else, when checkpoint.resume names a
// folder, that one; else none. Every byte is checked; broken ones are named in the log and passed over. Throws
// CheckpointError when all of the run folder's are broken, when the named one is missing or broken, or when a fresh
// start is asked for (none) in a folder that holds checkpoints.
std::optional<fs::path> find_resume(const CheckpointConfig& config, const fs::path& run_folder);

// Publishes <run_folder>/step-N.
void save_training(const fs::path& run_folder, const RunPlan& plan, const TrainState& state, const ShardEngine& engine,
                   const AdamW& optimizer);

// Fills engine and optimizer from what find_resume() gave. Throws CheckpointError.
TrainState load_training(const fs::path& folder, const RunPlan& plan, ShardEngine& engine, AdamW& optimizer);

// Weights alone, for evaluation and sampling; every byte of the checkpoint is checked.
void load_weights(const fs::path& folder, ShardEngine& engine);

}  // namespace norma
