// The composition root: model, storage, optimizer and device of one process, built from a run plan.
#pragma once

#include <exception>
#include <memory>
#include <optional>

#include "norma/config/config.h"
#include "norma/model/transformer.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/strategy.h"
#include "norma/parallel/world.h"
#include "norma/train/run_plan.h"

namespace norma {

// Threads, kernels and matrix-product settings of this process. Returns the device to run on; ConfigError when CUDA
// is asked for and there is none.
at::Device start_runtime(const RunSettings& run, const LaunchEnvironment& launch = {});

// run.kernels and run.deterministic, where they are known only after the start.
void choose_kernels(const RunSettings& run);

// Bytes: allocated on a GPU, else resident.
std::int64_t peak_memory(const at::Device& device);

struct Session {
  at::Device device = at::kCPU;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;
  std::unique_ptr<AdamW> optimizer;  // null when the session does not train
};

// Meets the other processes that the launcher started, if any.
std::unique_ptr<World> make_world(const ParallelConfig& config, const LaunchEnvironment& launch, at::Device device);

// Ends a process whose peers wait for it: says that it fails, and leaves without destructors, which would wait for
// peers or for a save that comes to nothing.
[[noreturn]] void leave(World& world, const std::exception_ptr& exception);

// Weights are zero until draw_initial_weights() or a loader fills them. `world` outlives the session.
Session make_session(const RunConfig& config, const NormPlan& norms, at::Device device, Purpose purpose,
                     const World& world);

}  // namespace norma
