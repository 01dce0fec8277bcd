// A block: two sub-layers, each the one residual equation around its branch.
#pragma once

#include <memory>
#include <optional>

#include <torch/nn/module.h>

#include "norma/kernels/ops.h"
#include "norma/model/transformer.h"

#include "norm_module.h"

namespace norma {

// What a forward pass knows besides the stream. Nothing in it is differentiable.
struct BlockContext {
  RopeTable rope;                  // angles of this pass' positions
  std::optional<at::Tensor> mask;  // [B, 1, T, S] when documents are kept apart
  DecodeCache* cache = nullptr;
  bool recompute_inputs = false;  // see prepared_linear()
};

// The input u of a branch, which its first matrix product may have to make again.
class BranchInput {
 public:
  BranchInput(TensorFunction prepare, at::Tensor x, bool recompute)
      : prepare_(std::move(prepare)), x_(std::move(x)), recompute_(recompute) {}
  at::Tensor project(const at::Tensor& matrix);  // u [B, T, D] times matrix [out, D] -> [B, T, out]
  const at::Tensor& value();                     // u itself

 private:
  TensorFunction prepare_;
  at::Tensor x_, value_;
  bool recompute_;
};

// u = g * N_in(x)   y = N_out(F(u))   x' = N_sum(alpha * skip + beta * y)
class SubLayer : public torch::nn::Module {
 public:
  SubLayer(const ResidualWiring& wiring, std::int64_t d_model);
  // x and block_input [B, T, D] -> [B, T, D]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& block_input, const BlockContext& context);

 protected:
  virtual at::Tensor branch(BranchInput& u, const BlockContext& context) = 0;  // F: [B, T, D] -> [B, T, D]

 private:
  ResidualWiring wiring_;
  Norm in_, out_, sum_;
};

// Grouped-query attention with optional norms on q, k, v and context.
class Attention : public SubLayer {
 public:
  Attention(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  at::Tensor heads(const at::Tensor& flat, const InnerSite& site, const Norm& norm) const;
  at::Tensor mix(at::Tensor projected, const BlockContext& context) const;

  ModelConfig config_;
  InnerNorms sites_;
  std::size_t layer_;
  at::Tensor qkv_, out_;
  Norm q_, k_, v_, context_;
};

// SwiGLU: down(silu(gate(u)) * up(u)), up and gate as one matrix.
class Mlp : public SubLayer {
 public:
  Mlp(const ModelConfig& config, const LayerPolicy& policy);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  at::Tensor up_gate_, down_;
};

class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(const ModelConfig& config, const LayerPolicy& policy, std::int64_t layer);
  at::Tensor forward(const at::Tensor& x, const BlockContext& context);  // [B, T, D] -> [B, T, D]

 private:
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Mlp> mlp_;
};

// A matrix [out, in] registered as "<name>.weight" under `parent`.
at::Tensor register_matrix(torch::nn::Module& parent, const std::string& name, std::int64_t out, std::int64_t in);

}  // namespace norma
