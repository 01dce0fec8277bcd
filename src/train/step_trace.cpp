#include "step_trace.h"

#include <set>

#include <torch/csrc/autograd/profiler_kineto.h>

#include "norma/base/error.h"

namespace norma {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

StepTrace::~StepTrace() {
  if (running_) profiler::disableProfiler();
}

void StepTrace::start() {
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (cuda_) activities.insert(ActivityType::CUDA);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  running_ = true;
}

void StepTrace::stop(const fs::path& file) {
  running_ = false;
  const auto result = profiler::disableProfiler();
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  result->save(file.string());
  if (error || !fs::exists(file)) throw DiskError(cat("[metrics.trace_steps] cannot write ", file.string()));
}

}  // namespace norma
