// Which path an op takes, as set_kernel_path() says.
#pragma once

namespace norma {

bool takes_fused_path(bool supported, const char* op);

}  // namespace norma
