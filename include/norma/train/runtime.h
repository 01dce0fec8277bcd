// Threads, kernels and device of this process.
#pragma once

#include <cstdint>

#include <c10/core/Device.h>

#include "norma/config/config.h"
#include "norma/parallel/launch.h"

namespace norma {

// Sets the number of threads, the kernels and how fp32 products are computed. Returns the device to run on. Throws
// ConfigError when CUDA is asked for and there is none, or when a node runs more processes than it has GPUs.
at::Device start_runtime(const RunSettings& run, const LaunchEnvironment& launch = {});

// run.kernels and run.deterministic, for a command that learns them only after the start.
void choose_kernels(const RunSettings& run);

// The most bytes that were in use at once: allocated on a GPU, else resident in memory.
std::int64_t peak_memory(const at::Device& device);

}  // namespace norma
