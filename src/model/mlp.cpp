#include "mlp.h"

namespace norma {

SwigluMatrices take_swiglu(UnitTensors& tensors) {
  return {tensors.take(ParameterRole::up_gate), tensors.take(ParameterRole::down)};
}

at::Tensor SwigluMatrices::forward(BranchInput& u, const BlockContext& context) const {
  const auto activate = [](const TensorList& in) { return ops::swiglu(in[0]); };  // [B, T, 2F] -> [B, T, F]
  return ops::prepared_linear(activate, {u.project(up_gate)}, down, context.recompute_inputs).y;  // [B, T, D]
}

Mlp::Mlp(const BlockParts& parts)
    : SubLayer(parts.policy.mlp, parts.norms.mlp), matrices_(take_swiglu(parts.tensors)) {}

at::Tensor Mlp::branch(BranchInput& u, const BlockContext& context) {
  return matrices_.forward(u, context);
}

}  // namespace norma
