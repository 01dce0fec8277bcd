#include "checkpoint_model.h"

#include "norma/base/error.h"
#include "norma/checkpoint/commit.h"
#include "norma/train/checkpointing.h"

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

CheckpointModel load_checkpoint_model(const std::string& path, Device device, std::int64_t threads,
                                      const std::function<void(RunConfig&)>& adjust) {
  CheckpointModel result;
  result.folder = find_checkpoint(path);
  NormPlan norms;
  result.config = config_of(open_checkpoint(result.folder), result.folder, norms);
  result.config.run.device = device;
  result.config.run.threads = threads;
  if (adjust) adjust(result.config);
  const at::Device place = start_runtime(result.config.run);
  result.config.parallel = {};  // read by one process, whoever wrote it
  result.session = make_session(result.config, norms, place, Purpose::inference, World());
  load_weights(result.folder, *result.session.engine);
  return result;
}

}  // namespace norma
