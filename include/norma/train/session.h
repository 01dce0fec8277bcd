// What a process computes with: threads, kernels and device, and a model with its storage and optimizer. Also how long
// a run in minutes is in steps, which is measured with such a model.
#pragma once

#include <cstdint>
#include <memory>

#include <c10/core/Device.h>

#include "norma/base/file.h"
#include "norma/base/log.h"
#include "norma/config/config.h"
#include "norma/kernels/ops.h"
#include "norma/model/transformer.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/launch.h"
#include "norma/parallel/shard_engine.h"
#include "norma/train/run_plan.h"

namespace norma {

// Sets the number of threads, the kernels and how fp32 products are computed. Returns the device to run on. Throws
// ConfigError when CUDA is asked for and there is none, or when a node runs more processes than it has GPUs.
// `note` says which ops run by their reference and why.
at::Device start_runtime(const RunSettings& run, const LaunchEnvironment& launch = {}, KernelNote note = log_info);

// run.kernels and run.deterministic, for a command that learns them only after the start.
void choose_kernels(const RunSettings& run, KernelNote note = log_info);

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

// The length in steps of a plan whose train.max_duration is in minutes: the one that the run folder holds for the same
// minutes, else measured on random tokens by all ranks and written there. Evaluation and saving come on top. The model
// that is measured is gone when the function returns.
Duration measured_length(const RunPlan& plan, const fs::path& run_folder, at::Device device, World& world);

// This rank's rows of a batch of random ids, [rows, T], on `device`; another seed gives other tokens.
at::Tensor random_batch(const RunPlan& plan, const Peers& peers, at::Device device, std::uint64_t seed);

}  // namespace norma
