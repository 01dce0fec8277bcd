#include "norma/train/checkpointing.h"

#include <algorithm>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/config/yaml.h"

#include "resume_check.h"

namespace norma {
namespace {

FlatState weights_of(const ShardEngine& engine) {
  const Mesh& mesh = engine.mesh();
  return {.layout = engine.layout(),
          .shard_degree = mesh.shard_degree,
          .shard_rank = mesh.shard_rank,
          .owner = mesh.replica == 0,
          .weights = engine.masters(),
          .exp_avg = {},
          .exp_avg_sq = {}};
}

FlatState full_state(const ShardEngine& engine, const AdamW& optimizer) {
  FlatState state = weights_of(engine);
  state.exp_avg = optimizer.exp_avg();
  state.exp_avg_sq = optimizer.exp_avg_sq();
  return state;
}

bool has_moments(const Manifest& manifest) {
  return std::any_of(manifest.tensors.begin(), manifest.tensors.end(),
                     [](const TensorEntry& tensor) { return tensor.kind != TensorKind::weight; });
}

double number_field(const Manifest& manifest, const fs::path& folder, const char* name) {
  const auto found = manifest.trainer.find(name);
  if (found == manifest.trainer.end() || !found->is_number()) {
    throw CheckpointError(cat("[checkpoint] ", folder.string(), "/manifest.json: trainer.", name, " must be a number"));
  }
  return found->get<double>();
}

// Checkpoints of earlier versions hold none.
Throughput throughput_of(const Manifest& manifest, const fs::path& folder) {
  if (!manifest.trainer.contains("training_tokens")) return {};
  return {.seconds = number_field(manifest, folder, "training_seconds"),
          .tokens = count_field(manifest, folder, "training_tokens")};
}

Position position_of(const Manifest& manifest, const fs::path& folder) {
  try {
    return parse_position(manifest.data.value("position", Json::object()), folder.string() + "/manifest.json");
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

std::optional<fs::path> look_for_resume(const CheckpointConfig& config, const fs::path& run_folder) {
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

}  // namespace

std::optional<fs::path> find_resume(const CheckpointConfig& config, const fs::path& run_folder, Peers& peers) {
  const std::string folder = peers.on_first([&] { return look_for_resume(config, run_folder).value_or("").string(); });
  return folder.empty() ? std::nullopt : std::optional<fs::path>(folder);
}

Manifest training_manifest(const RunConfig& config, const TrainState& state, std::int64_t optimizer_steps,
                           const std::string& data_fingerprint) {
  Manifest manifest;
  manifest.step = state.step;
  manifest.tokens = state.position.tokens;
  manifest.config = to_yaml(config);
  manifest.data["position"] = to_json(state.position);
  manifest.data["fingerprint"] = data_fingerprint;
  manifest.trainer["optimizer_steps"] = optimizer_steps;
  manifest.trainer["evaluated_step"] = state.evaluated_step;
  manifest.trainer["best_loss"] = state.best_loss;
  manifest.trainer["final_loss"] = state.final_loss;
  manifest.trainer["seconds"] = state.seconds;
  manifest.trainer["training_seconds"] = state.throughput.seconds;
  manifest.trainer["training_tokens"] = state.throughput.tokens;
  manifest.trainer["global_batch_size"] = config.train.global_batch_size;
  manifest.trainer["sequence_length"] = config.model.sequence_length;
  manifest.trainer["validation"] = Json::object();
  for (const auto& [label, loss] : state.validation) manifest.trainer["validation"][label] = loss;
  return manifest;
}

std::unique_ptr<CheckpointSave> save_training(const fs::path& run_folder, const RunPlan& plan, const TrainState& state,
                                              const ShardEngine& engine, const AdamW& optimizer, Peers& peers,
                                              const std::string& data_fingerprint) {
  Manifest manifest = training_manifest(plan.config, state, optimizer.step_count(), data_fingerprint);
  const SaveMode mode = plan.config.checkpoint.background ? SaveMode::background : SaveMode::wait;
  return std::make_unique<CheckpointSave>(run_folder, std::move(manifest), full_state(engine, optimizer), peers, mode);
}

TrainState load_training(const fs::path& folder, const RunPlan& plan, ShardEngine& engine, AdamW& optimizer,
                         const std::string& data_fingerprint) {
  const Manifest manifest = open_checkpoint(folder);
  check_resume(manifest, folder, plan, data_fingerprint);
  const std::int64_t optimizer_steps = count_field(manifest, folder, "optimizer_steps");
  const bool weights_alone = optimizer_steps == 0 && !has_moments(manifest);
  read_checkpoint(folder, manifest, weights_alone ? weights_of(engine) : full_state(engine, optimizer));
  engine.refresh_compute();
  optimizer.set_step_count(optimizer_steps);
  TrainState state;
  state.step = manifest.step;
  state.position = position_of(manifest, folder);
  state.evaluated_step = count_field(manifest, folder, "evaluated_step");
  state.best_loss = number_field(manifest, folder, "best_loss");
  state.final_loss = number_field(manifest, folder, "final_loss");
  state.throughput = throughput_of(manifest, folder);
  if (manifest.trainer.contains("seconds")) state.seconds = number_field(manifest, folder, "seconds");
  const Json validation = manifest.trainer.value("validation", Json::object());
  for (const auto& [label, loss] : validation.items()) {
    if (loss.is_number()) state.validation.emplace_back(label, loss.get<double>());
  }
  return state;
}

void load_weights(const fs::path& folder, ShardEngine& engine) {
  read_checkpoint(folder, verify_checkpoint(folder), weights_of(engine));
  engine.refresh_compute();
}

}  // namespace norma
