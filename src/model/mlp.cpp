#include "mlp.h"

namespace norma {

SwigluMatrices register_swiglu(torch::nn::Module& parent, std::int64_t d_model, std::int64_t width) {
  const at::Tensor up_gate = register_matrix(parent, "up_gate", {2 * width, d_model});
  return {up_gate, register_matrix(parent, "down", {d_model, width})};
}

at::Tensor SwigluMatrices::forward(BranchInput& u, const BlockContext& context) const {
  const auto activate = [](const TensorList& in) { return ops::swiglu(in[0]); };  // [B, T, 2F] -> [B, T, F]
  return ops::prepared_linear(activate, {u.project(up_gate)}, down, context.recompute_inputs).y;  // [B, T, D]
}

Mlp::Mlp(const ModelConfig& config, const LayerPolicy& policy)
    : SubLayer(policy.mlp, config.d_model), matrices_(register_swiglu(*this, config.d_model, config.mlp_dim)) {}

at::Tensor Mlp::branch(BranchInput& u, const BlockContext& context) {
  return matrices_.forward(u, context);
}

}  // namespace norma
