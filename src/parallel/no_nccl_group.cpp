// Chosen by CMake in a build without CUDA; nccl_group.cpp otherwise.
#include "norma/base/error.h"
#include "norma/parallel/group.h"

namespace norma {

std::unique_ptr<Group> make_nccl_group(const c10::intrusive_ptr<c10d::Store>&, int, int, Seconds, at::Device) {
  throw ConfigError("[run.device] this build has no NCCL; allowed here: cpu");
}

}  // namespace norma
