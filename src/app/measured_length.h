// A run's length in minutes as steps.
#pragma once

#include "norma/base/file.h"
#include "norma/parallel/world.h"
#include "norma/train/run_plan.h"

namespace norma {

// The length in steps of a plan whose train.max_duration is in minutes: the one that the run folder holds for the same
// minutes, else measured on random tokens by all ranks and written there. Evaluation and saving come on top. The model
// that is measured is gone when the function returns.
Duration measured_length(const RunPlan& plan, const fs::path& run_folder, at::Device device, World& world);

}  // namespace norma
