#include "kernel_path.h"

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

namespace norma {
namespace {

KernelPath g_path = KernelPath::automatic;

}  // namespace

bool takes_fused_path(bool supported, const char* op) {
  NORMA_CHECK(supported || g_path != KernelPath::fused, "[", op, "] no fused kernel supports these arguments");
  return supported && g_path != KernelPath::reference;
}

void set_kernel_path(KernelPath path) {
  g_path = path;
}

}  // namespace norma
