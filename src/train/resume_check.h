// Whether a checkpoint may go on under the config of this run.
#pragma once

#include "norma/base/file.h"
#include "norma/checkpoint/manifest.h"
#include "norma/train/run_plan.h"

namespace norma {

// Throws CheckpointError when the model or the placement of its norms differs (unless checkpoint.resume_allow names the
// keys), or when the size of batches differs and a step was taken. Other keys that differ, and other data, are logged.
void check_resume(const Manifest& manifest, const fs::path& folder, const RunPlan& plan,
                  const std::string& data_fingerprint);

// A whole number of at least -1 under `name` in the manifest's trainer section. Throws CheckpointError.
std::int64_t count_field(const Manifest& manifest, const fs::path& folder, const char* name);

}  // namespace norma
