// The path of the ops for the length of a scope.
#pragma once

#include <utility>

#include "norma/kernels/ops.h"

namespace norma::testing {

class KernelPathScope {
 public:
  explicit KernelPathScope(KernelPath path, KernelNote note = {}) { set_kernel_path(path, std::move(note)); }
  ~KernelPathScope() { set_kernel_path(KernelPath::automatic); }
  KernelPathScope(const KernelPathScope&) = delete;
  KernelPathScope& operator=(const KernelPathScope&) = delete;
};

}  // namespace norma::testing
