#include "mlp.h"

#include <ATen/ATen.h>

namespace norma {

Mlp::Mlp(const ModelConfig& config, const LayerPolicy& policy)
    : SubLayer(policy.mlp, config.d_model),
      up_gate_(register_matrix(*this, "up_gate", 2 * config.mlp_dim, config.d_model)),
      down_(register_matrix(*this, "down", config.d_model, config.mlp_dim)) {}

at::Tensor Mlp::branch(BranchInput& u, const BlockContext& context) {
  const auto activate = [](const TensorList& in) { return swiglu(in[0]); };  // [B, T, 2F] -> [B, T, F]
  return prepared_linear(activate, {u.project(up_gate_)}, down_, context.recompute_inputs).y;  // [B, T, D]
}

}  // namespace norma
