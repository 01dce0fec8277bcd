#include "norma/train/checkpointing.h"

#include "norma/base/error.h"
#include "norma/checkpoint/state.h"
#include "norma/config/schema.h"

namespace norma {
namespace {

std::vector<at::Tensor> masters(const ShardEngine& engine) {
  std::vector<at::Tensor> weights;
  for (const FlatUnit& unit : engine.flat_units()) weights.push_back(unit.master);
  return weights;
}

FlatState full_state(const ShardEngine& engine, const AdamW& optimizer) {
  return {engine.layout(), masters(engine), optimizer.exp_avg(), optimizer.exp_avg_sq()};
}

template <class T>
T trainer_field(const Manifest& manifest, const fs::path& folder, const char* name) {
  const auto found = manifest.trainer.find(name);
  if (found == manifest.trainer.end() || !found->is_number()) {
    throw CheckpointError(cat("[checkpoint] ", folder.string(), "/manifest.json: trainer.", name, " must be a number"));
  }
  return found->get<T>();
}

Position position_of(const Manifest& manifest, const fs::path& folder) {
  try {
    return parse_position(manifest.data.value("position", Json::object()), folder.string() + "/manifest.json");
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace

std::optional<fs::path> find_resume(const CheckpointConfig& config, const fs::path& run_folder) {
  const SweptTemporaries swept = sweep_temporaries(run_folder);
  for (const std::string& name : swept.removed) log_info("removed what an interrupted save left: " + name);
  const FoundCheckpoint found = find_newest_checkpoint(run_folder, CheckpointCheck::checksums);
  for (const SkippedCheckpoint& skipped : found.skipped) {
    log_warning(cat("skipping the checkpoint ", skipped.folder, ": ", skipped.reason));
  }
  if (found.folder && config.resume == "none") {
    throw CheckpointError(cat("[checkpoint.resume] none asks for a fresh start, but ", run_folder.string(), " holds ",
                              found.folder->filename().string(),
                              "; remove the folder, choose another run.name, or set checkpoint.resume=auto"));
  }
  if (!found.folder && !found.skipped.empty()) {
    throw CheckpointError(cat("[checkpoint.resume] every checkpoint in ", run_folder.string(),
                              " is broken (reasons above); remove them to start anew, or give this run another name"));
  }
  const bool named = config.resume != "auto" && config.resume != "none";
  if (found.folder || !named) return found.folder;
  verify_checkpoint(config.resume);
  return config.resume;
}

void save_training(const fs::path& run_folder, const RunPlan& plan, const TrainState& state, const ShardEngine& engine,
                   const AdamW& optimizer) {
  Manifest manifest;
  manifest.step = state.step;
  manifest.tokens = state.position.tokens;
  manifest.config = to_yaml(plan.config);
  manifest.data["position"] = to_json(state.position);
  manifest.trainer["optimizer_steps"] = optimizer.step_count();
  manifest.trainer["evaluated_step"] = state.evaluated_step;
  manifest.trainer["best_loss"] = state.best_loss;
  manifest.trainer["final_loss"] = state.final_loss;
  manifest.trainer["tokens_per_step"] = plan.tokens_per_step;
  manifest.trainer["validation"] = Json::object();
  for (const auto& [label, loss] : state.validation) manifest.trainer["validation"][label] = loss;
  write_checkpoint(run_folder, std::move(manifest), full_state(engine, optimizer));
}

TrainState load_training(const fs::path& folder, const RunPlan& plan, ShardEngine& engine, AdamW& optimizer) {
  const Manifest manifest = open_checkpoint(folder);
  const auto tokens_per_step = trainer_field<std::int64_t>(manifest, folder, "tokens_per_step");
  if (tokens_per_step != plan.tokens_per_step) {
    throw CheckpointError(cat("[checkpoint] ", folder.string(), " was trained with ", tokens_per_step,
                              " tokens per step, the config asks for ", plan.tokens_per_step,
                              "; keep train.global_batch_size and model.sequence_length"));
  }
  read_checkpoint(folder, manifest, full_state(engine, optimizer));
  engine.refresh_compute();
  optimizer.set_step_count(trainer_field<std::int64_t>(manifest, folder, "optimizer_steps"));
  TrainState state;
  state.step = manifest.step;
  state.position = position_of(manifest, folder);
  state.evaluated_step = trainer_field<std::int64_t>(manifest, folder, "evaluated_step");
  state.best_loss = trainer_field<double>(manifest, folder, "best_loss");
  state.final_loss = trainer_field<double>(manifest, folder, "final_loss");
  const Json validation = manifest.trainer.value("validation", Json::object());
  for (const auto& [label, loss] : validation.items()) {
    if (loss.is_number()) state.validation.emplace_back(label, loss.get<double>());
  }
  return state;
}

void load_weights(const fs::path& folder, ShardEngine& engine) {
  read_checkpoint(folder, verify_checkpoint(folder), {engine.layout(), masters(engine), {}, {}});
  engine.refresh_compute();
}

}  // namespace norma
