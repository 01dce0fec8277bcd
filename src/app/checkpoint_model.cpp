#include "checkpoint_model.h"

#include "norma/base/error.h"
#include "norma/checkpoint/commit.h"
#include "norma/train/checkpointing.h"
#include "norma/train/runtime.h"

#include "checked_config.h"

namespace norma {

fs::path find_checkpoint(const std::string& path) {
  std::error_code error;
  if (fs::exists(fs::path(path) / kManifestName, error)) return path;
  if (error) throw CheckpointError(cat("[checkpoint] cannot look into ", path, ": ", error.message()));
  if (!fs::is_directory(path, error)) {
    throw CheckpointError(cat("[checkpoint] ", path, " is not a folder; give a run folder or a step-N folder"));
  }
  const FoundCheckpoint found = find_newest_checkpoint(path);
  if (!found.folder) {
    std::string text = cat("[checkpoint] ", path, " holds no complete checkpoint");
    for (const SkippedCheckpoint& skipped : found.skipped) text += cat("; ", skipped.folder, ": ", skipped.reason);
    throw CheckpointError(text);
  }
  return *found.folder;
}

RunConfig config_of(const Manifest& manifest, const fs::path& folder, NormPlan& norms) {
  LoadedConfig loaded = parse_config(manifest.config, (folder / kManifestName).string());
  append(loaded.problems, validate(loaded.config));
  if (loaded.problems.empty()) {
    norms = make_norm_plan(loaded.config.norm, loaded.config.model, loaded.problems);
  }
  if (!loaded.problems.empty()) {
    throw CheckpointError(cat("[checkpoint] the config inside ", folder.string(),
                              " is not understood: ", join(describe(loaded.problems, loaded.source), "; ")));
  }
  return loaded.config;
}

namespace {

ModelSource foreign_model(const fs::path& folder) {
  ModelSource source;
  source.folder = folder;
  source.hugging_face = std::make_shared<const HfFolder>(folder);
  const HfModel& model = source.hugging_face->model();
  source.config.model = model.model;
  source.config.norm = model.norm;
  source.norms = model.plan;
  if (fs::exists(folder / "tokenizer.json")) source.config.data.tokenizer = fs::absolute(folder / "tokenizer.json");
  return source;
}

}  // namespace

ModelSource find_model(const std::string& path) {
  std::error_code error;
  if (fs::exists(fs::path(path) / "config.json", error)) return foreign_model(path);
  ModelSource source;
  source.folder = find_checkpoint(path);
  const Manifest manifest = open_checkpoint(source.folder);
  source.config = config_of(manifest, source.folder, source.norms);
  source.step = manifest.step;
  return source;
}

Session load_model(const ModelSource& source, at::Device device, const World& world) {
  Session session = make_session(source.config, source.norms, device, Purpose::inference, world);
  ShardEngine& engine = *session.engine;
  if (!source.hugging_face) {
    load_weights(source.folder, engine);
    return session;
  }
  source.hugging_face->load(engine.layout(), engine.flat_units(), [&](std::size_t unit) { return engine.shard(unit); });
  engine.refresh_compute();
  return session;
}

CheckpointModel load_checkpoint_model(const std::string& path, Device device, std::int64_t threads,
                                      const std::function<void(RunConfig&)>& adjust) {
  ModelSource source = find_model(path);
  source.config.run.device = device;
  source.config.run.threads = threads;
  source.config.parallel = {};  // read by one process, whoever wrote it
  if (adjust) adjust(source.config);
  const at::Device place = start_runtime(source.config.run);
  Session session = load_model(source, place, World());
  return {source.folder, source.config, std::move(session)};
}

}  // namespace norma
