// What a process computes with: threads, kernels and device, and a model with its storage and optimizer.
#pragma once

#include <cstdint>
#include <memory>

#include <c10/core/Device.h>

#include "norma/config/config.h"
#include "norma/model/transformer.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/launch.h"
#include "norma/parallel/shard_engine.h"

namespace norma {

// Sets the number of threads, the kernels and how fp32 products are computed. Returns the device to run on. Throws
// ConfigError when CUDA is asked for and there is none, or when a node runs more processes than it has GPUs.
at::Device start_runtime(const RunSettings& run, const LaunchEnvironment& launch = {});

// run.kernels and run.deterministic, for a command that learns them only after the start.
void choose_kernels(const RunSettings& run);

// The most bytes that were in use at once: allocated on a GPU, else resident in memory.
std::int64_t peak_memory(const at::Device& device);

struct Session {
  at::Device device = at::kCPU;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;
  std::unique_ptr<AdamW> optimizer;  // null when the session does not train
};

// The weights are zero until the engine is filled. `world` outlives the session.
Session make_session(const RunConfig& config, const NormPlan& norms, at::Device device, Purpose purpose,
                     const World& world);

}  // namespace norma
