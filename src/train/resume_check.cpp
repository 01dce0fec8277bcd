#include "resume_check.h"

#include <algorithm>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/config/yaml.h"

namespace norma {
namespace {

// The position in the data counts batches of one size, of instances of one length: both must stay as they were.
void check_same_batches(const Manifest& manifest, const fs::path& folder, const RunConfig& config) {
  const auto check = [&](const char* field, std::int64_t now, const char* key) {
    const std::int64_t before = count_field(manifest, folder, field);
    if (before == now) return;
    throw CheckpointError(cat("[checkpoint] ", folder.string(), " was trained with ", key, "=", before,
                              ", the config asks for ", now,
                              "; the position in the data is counted in it, so it must stay the same"));
  };
  check("global_batch_size", config.train.global_batch_size, "train.global_batch_size");
  check("sequence_length", config.model.sequence_length, "model.sequence_length");
}

std::string line_of(const KeyDifference& difference) {
  return cat(difference.key, ": ", difference.before, " -> ", difference.now);
}

// Two norm sections may describe the same placement in different words.
bool same_placement(const RunConfig& before, const RunPlan& plan) {
  Problems problems;
  const NormPlan norms = make_norm_plan(before.norm, before.model, problems);
  return problems.empty() && norms == plan.norms;
}

}  // namespace

std::int64_t count_field(const Manifest& manifest, const fs::path& folder, const char* name) {
  constexpr std::int64_t kMost = std::int64_t{1} << 60;
  const auto found = manifest.trainer.find(name);
  const bool whole = found != manifest.trainer.end() && found->is_number_integer();
  const std::int64_t value = whole ? found->get<std::int64_t>() : -2;
  if (value >= -1 && value <= kMost) return value;
  throw CheckpointError(cat("[checkpoint] ", folder.string(), "/manifest.json: trainer.", name,
                            " must be a whole number from -1 to 2^60"));
}

void check_resume(const Manifest& manifest, const fs::path& folder, const RunPlan& plan,
                  const std::string& data_fingerprint) {
  const bool before_first = manifest.step == 0 && manifest.tokens == 0;  // no position that counts in batches
  if (!before_first) check_same_batches(manifest, folder, plan.config);
  const LoadedConfig saved = parse_config(manifest.config, (folder / kManifestName).string());
  const std::vector<std::string>& allowed = plan.config.checkpoint.resume_allow;
  const bool placement_kept = same_placement(saved.config, plan);
  std::vector<std::string> refused, noted;
  for (const KeyDifference& difference : differing_keys(saved.config, plan.config)) {
    const std::string& key = difference.key;
    const bool of_model = is_inside(key, "model") || (is_inside(key, "norm") && !placement_kept);
    const bool free_length = before_first && key == "model.sequence_length";
    const bool may =
        free_length || std::any_of(allowed.begin(), allowed.end(), [&](const auto& a) { return is_inside(key, a); });
    if (of_model && !may) refused.push_back(line_of(difference));
    if (is_inside(key, "optim") || is_inside(key, "schedule") || is_inside(key, "data") ||
        is_inside(key, "train.freeze") || key == "precision" || (of_model && may)) {
      noted.push_back(line_of(difference));
    }
  }
  if (!refused.empty()) {
    throw CheckpointError(cat("[checkpoint] ", folder.string(), " is of another model than this config:\n  ",
                              join(refused, "\n  "), "\nGive this run another run.name to start anew, take the keys ",
                              "back, or name them in checkpoint.resume_allow if the change is meant"));
  }
  if (!noted.empty()) log_info("the config differs from the checkpoint's in\n  " + join(noted, "\n  "));
  const std::string data = manifest.data.value("fingerprint", "");
  if (!data.empty() && data != data_fingerprint) {
    log_warning(
        cat(folder.string(), " was trained on other data than data.paths names now; its position in the data is kept"));
  }
}

}  // namespace norma
