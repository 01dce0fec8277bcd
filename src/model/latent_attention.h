// Multi-head latent attention as a branch of the residual equation.
#pragma once

#include "sub_layer.h"

namespace norma {

// DeepSeek-V2, arXiv 2405.04434. Letters besides those of transformer.h: R width of the latent of keys and values, Q
// width of the latent of queries, N and P widths of the parts of a head's query and key without and with RoPE, W width
// of a value.
//
//     [c | k0] = u kv_down^T       c = norm_kv_latent(c)       k0 = norm_rope_key(k0)
//     q = norm_q(norm_q_latent(u q_down^T) q_up^T), or norm_q(u q^T); of each head [N | P], P rotated by RoPE
//     [k | v] of each head = c kv_up^T       k = [norm_k(k) | rope(k0)], one k0 for all heads       v = norm_v(v)
//     out(norm_context(softmax(scale q k^T) v))
//
// Where there is no norm_rope_key, norm_k norms [k | k0] as one vector per head.
//
// The cache holds c, the rotated k0, and the factors of norms on k and v. A new token attends to them in the absorbed
// form: queries are multiplied by the key rows of kv_up and compared with c itself, weighted sums of c are multiplied
// by the value rows.
class LatentAttention : public SubLayer {
 public:
  explicit LatentAttention(const BlockParts& parts);

 protected:
  at::Tensor branch(BranchInput& u, const BlockContext& context) override;

 private:
  at::Tensor queries(const at::Tensor& projected, const BlockContext& context) const;
  at::Tensor keys(const at::Tensor& of_latent, const at::Tensor& shared, const BlockContext& context) const;
  at::Tensor values(const at::Tensor& of_latent) const;
  at::Tensor normed_context(const at::Tensor& mixed) const;
  at::Tensor attend(const TensorList& in, const BlockContext& context) const;
  at::Tensor attend_absorbed(const at::Tensor& q, const BlockContext& context) const;
  at::Tensor value_gain() const;
  void remember(const at::Tensor& latent, const at::Tensor& shared, const at::Tensor& up,
                const BlockContext& context) const;

  ModelConfig config_;
  InnerNorms sites_;
  std::size_t layer_;
  double scale_;
  std::optional<at::Tensor> q_up_;  // where queries have a latent of their own: q_ is q_down then
  at::Tensor q_, kv_down_, kv_up_, out_;
  InnerSites<Norm> inner_;
};

}  // namespace norma
