#include "sub_layer.h"

#include <ATen/ATen.h>

namespace norma {

at::Tensor BranchInput::project(const at::Tensor& matrix) {
  if (value_.defined()) return ops::linear(value_, matrix);
  return project(TensorList{matrix})[0];
}

TensorList BranchInput::project(const TensorList& matrices) {
  const PreparedLinears prepared = ops::prepared_linears(prepare_, {x_}, matrices, recompute_);
  value_ = prepared.h;
  return prepared.y;
}

const at::Tensor& BranchInput::value() {
  if (!value_.defined()) value_ = prepare_({x_});
  return value_;
}

at::Tensor SubLayer::forward(const at::Tensor& x, const at::Tensor& block_input, const BlockContext& context) {
  const auto prepare = [this](const TensorList& in) {
    const at::Tensor u = norms_.in(in[0]);
    return wiring_.in_gain != 1.0 ? u * wiring_.in_gain : u;
  };
  const bool is_stream = !norms_.in.present() && wiring_.in_gain == 1.0;  // kept anyway
  BranchInput u(prepare, x, context.recompute_inputs && !is_stream);
  const at::Tensor y = norms_.out(branch(u, context));
  const at::Tensor& skip = wiring_.skip == SkipSource::stream   ? x
                           : wiring_.skip == SkipSource::normed ? u.value()
                                                                : block_input;
  return norms_.sum(ops::residual_join(skip, y, wiring_.alpha, wiring_.beta));
}

}  // namespace norma
