// What this binary is.
#pragma once

#include <string>

namespace norma {

std::string version_text();  // "norma 0.1.0 (commit abc1234), LibTorch 2.11.0, CUDA build"
std::string commit_hash();   // of the source tree at configure time; "unknown" outside of a checkout
std::string libtorch_version();
bool built_with_cuda();

}  // namespace norma
