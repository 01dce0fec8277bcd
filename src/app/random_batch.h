// Random tokens for measuring a training step.
#pragma once

#include <cstdint>

#include <ATen/ATen.h>

#include "norma/base/peers.h"
#include "norma/train/run_plan.h"

namespace norma {

// This rank's part of a batch, [rows, T]; another seed gives other tokens.
at::Tensor random_batch(const RunPlan& plan, const Peers& peers, at::Device device, std::uint64_t seed);

}  // namespace norma
