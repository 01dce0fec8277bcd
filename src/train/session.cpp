#include "norma/train/session.h"

#include <algorithm>
#include <cstdlib>

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <sys/resource.h>
#include <torch/cuda.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/thread_pool.h"
#include "norma/kernels/ops.h"
#include "norma/model/parameters.h"
#include "norma/parallel/sharding.h"

namespace norma {
namespace {

// LibTorch sends fp32 products to MKL, which is slow on some processors; "medium" sends them to oneDNN. On a CPU with
// AMX the same switch may round to bf16, so it is kept only where the result is true fp32.
void choose_fast_fp32_products() {
  const at::Tensor a = at::randn({256, 512}, at::make_generator<at::CPUGeneratorImpl>(1));
  const at::Tensor exact = at::mm(a.to(at::kDouble), a.to(at::kDouble).t());
  at::globalContext().setFloat32MatmulPrecision("medium");
  const double error = ((at::mm(a, a.t()).to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
  if (error > 1e-6) at::globalContext().setFloat32MatmulPrecision("highest");
}

KernelPath kernel_path_of(Kernels kernels) {
  switch (kernels) {
    case Kernels::reference:
      return KernelPath::reference;
    case Kernels::fused:
      return KernelPath::fused;
    case Kernels::automatic:
      break;
  }
  return KernelPath::automatic;
}

// run.threads, or this process's share of the cores. Far more threads than cores spin without getting anywhere.
int thread_count(const RunSettings& run, const LaunchEnvironment& launch) {
  constexpr std::int64_t kMostPerCore = 4;
  const int cores = available_cores();
  if (run.threads == 0) return std::max(1, cores / launch.local_world_size);  // with the node's other processes
  if (run.threads <= kMostPerCore * cores) return static_cast<int>(run.threads);
  log_warning(cat("run.threads asks for ", run.threads, " threads, but this process may use ", cores,
                  cores == 1 ? " core: using 1" : cat(" cores: using ", cores)));
  return cores;
}

}  // namespace

std::int64_t peak_memory(const at::Device& device) {
  if (device.is_cuda()) {
    return at::getDeviceAllocator(at::kCUDA)->getDeviceStats(device.index()).allocated_bytes[0].peak;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

void choose_kernels(const RunSettings& run, KernelNote note) {
  // cuBLAS repeats itself only with a fixed workspace, and reads this before its first call.
  if (run.deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  set_kernel_path(kernel_path_of(run.kernels), std::move(note));
  at::globalContext().setDeterministicAlgorithms(run.deterministic, /*warn_only=*/false);
}

at::Device start_runtime(const RunSettings& run, const LaunchEnvironment& launch, KernelNote note) {
  // LibTorch warns of every lost connection with a C++ backtrace; we say it in one line ourselves.
  setenv("TORCH_CPP_LOG_LEVEL", "ERROR", /*overwrite=*/0);
  c10::initLogging();
  choose_kernels(run, std::move(note));
  at::set_num_threads(thread_count(run, launch));
  const bool cuda = run.device == Device::cuda || (run.device == Device::automatic && torch::cuda::is_available());
  if (cuda && !torch::cuda::is_available()) {
    throw ConfigError("[run.device] cuda needs a GPU and a CUDA build; none was found. Allowed here: auto, cpu");
  }
  if (cuda) {
    const int gpus = static_cast<unsigned char>(torch::cuda::device_count());  // its type is a char
    if (launch.local_rank >= gpus) {
      throw ConfigError(cat("[launch] this node runs ", launch.local_world_size, " processes but has ", gpus,
                            gpus == 1 ? " GPU" : " GPUs", "; start one process per GPU, or set run.device=cpu"));
    }
    const auto index = static_cast<c10::DeviceIndex>(launch.local_rank);
    at::globalContext().lazyInitDevice(at::kCUDA);
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice({at::kCUDA, index});
    return {at::kCUDA, index};
  }
  choose_fast_fp32_products();
  return at::kCPU;
}

Session make_session(const RunConfig& config, const NormPlan& norms, at::Device device, Purpose purpose,
                     const World& world) {
  Session session;
  session.device = device;
  session.model = std::make_unique<Transformer>(config.model, norms);
  const Layout layout = model_layout(model_parameters(config.model, norms), config.optim, config.train.freeze);
  const std::vector<Unit>& units = session.model->units();
  session.engine = std::make_unique<ShardEngine>(units, layout, config.precision, device, purpose, world.mesh(),
                                                 engine_policy(config.parallel, world.size(), layout));
  if (purpose == Purpose::training) {
    session.optimizer = std::make_unique<AdamW>(session.engine->flat_units(), config.optim);
  }
  return session;
}

}  // namespace norma
