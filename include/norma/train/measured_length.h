// How long a run in minutes is in steps, and random tokens for measuring a step.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "norma/base/file.h"
#include "norma/parallel/world.h"
#include "norma/train/run_plan.h"

namespace norma {

// The length in steps of a plan whose train.max_duration is in minutes: the one that the run folder holds for the same
// minutes, else measured on random tokens by all ranks and written there. Evaluation and saving come on top. The model
// that is measured is gone when the function returns.
Duration measured_length(const RunPlan& plan, const fs::path& run_folder, at::Device device, World& world);

// This rank's rows of a batch of random ids, [rows, T], on `device`; another seed gives other tokens.
at::Tensor random_batch(const RunPlan& plan, const Peers& peers, at::Device device, std::uint64_t seed);

}  // namespace norma
