#include "norm_module.h"

#include "norma/kernels/ops.h"

namespace norma {

at::Tensor Norm::operator()(const at::Tensor& x) const {
  if (!present()) return x;
  return site.kind == NormKind::rms ? ops::rms_norm(x, gain, site.eps) : ops::layer_norm(x, gain, site.eps);
}

}  // namespace norma
