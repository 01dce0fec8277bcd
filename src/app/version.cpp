#include "version.h"

#include <torch/version.h>

#include "norma/base/text.h"

namespace norma {

std::string libtorch_version() {
  return TORCH_VERSION;
}

bool built_with_cuda() {
  return NORMA_WITH_CUDA != 0;
}

std::string version_text() {
  return cat("norma ", NORMA_VERSION, " (commit ", commit_hash(), "), LibTorch ", libtorch_version(),
             built_with_cuda() ? ", CUDA" : ", CPU only");
}

}  // namespace norma
