// What this binary is.
#pragma once

#include <string>

namespace norma {

std::string version_text();  // "norma 0.1.0 (commit abc1234), LibTorch 2.11.0, CUDA"
// The commit that was built, "abc1234", or "abc1234-dirty" where tracked files differed from it; "unknown" outside of a
// checkout.
std::string commit_hash();
std::string libtorch_version();
bool built_with_cuda();

}  // namespace norma
