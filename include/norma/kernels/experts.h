// Mixture of experts as differentiable functions: choose experts, put tokens in the experts' order, apply the experts,
// bring the results back. No token is dropped (megablocks, arXiv 2211.15841); losses and their denominators are those
// of OLMoE (arXiv 2409.02060), the other rules of choice those of DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437).
//
// Shapes: N tokens, D model, E experts, k experts of a token, F inner width of one expert. On CUDA nothing here waits
// for the device.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace norma {

struct RouterRule {
  std::int64_t top_k = 1;
  bool sigmoid = false;    // scores: sigmoid of each logit; else softmax over all experts, before the choice
  bool normalize = false;  // weights of a token are divided by their sum
  double scale = 1.0;      // factor on the weights, after that
  std::int64_t groups = 1, top_groups = 1;  // a token chooses within the best top_groups of `groups` equal groups
  bool group_of_two = false;                // a group is worth the sum of its two best scores; else its best
};

// Losses are of this batch of tokens, unweighted, with n_e the tokens of expert e and P_e the mean of its scores (of
// sigmoid scores: divided by their sum over experts first):
//   balance = E / (N k) * sum_e n_e P_e          1 at balance; its gradient flows through P only
//   z       = 1 / (N k) * sum_t (log sum_e exp logit)^2
// The 1/k of z is no slip: OLMoE divides both losses by the number of (token, expert) pairs.
struct Routing {
  at::Tensor experts;  // [N, k] int64, the best first; of equal ones the lower number
  at::Tensor weights;  // [N, k] in accumulate_type; differentiable
  at::Tensor balance;  // scalar, differentiable
  at::Tensor z;        // scalar, differentiable
  at::Tensor counts;   // [E] int64: pairs of each expert; they add up to N k
  at::Tensor entropy;  // scalar: sum over tokens of the entropy of their scores, in nats
};

// logits [N, E]; bias [E] is added to scores for choosing only.
Routing route(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule);

// The (token, choice) pairs sorted by expert, pairs of one expert in the order of their tokens. A pair's number is
// token * k + choice.
struct ExpertOrder {
  at::Tensor pairs;   // [N k] int64: which pair stands at a place
  at::Tensor places;  // [N k] int64: where a pair stands
  at::Tensor ends;    // [E] int32: one past the last place of each expert
};
ExpertOrder order_by_expert(const at::Tensor& experts, const at::Tensor& counts);

// How rows meet the experts' matrices: a product per expert, or at::_grouped_mm. automatic: one call for bf16 on CUDA,
// where it needs no counts on the host; D and F must then be multiples of 8, else it is a product per expert.
enum class Products { automatic, per_expert, one_call };

// y_t = sum over the choices of token t of weight * down_e (silu(gate_e x_t) * (up_e x_t)).
// x [N, D], up_gate [E, 2F, D] (rows of up, then of gate), down [E, D, F], weights [N, k] -> [N, D] of x's type; the
// sum is formed in accumulate_type. keep_less: the backward pass gathers x by expert again instead of keeping it.
at::Tensor expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down, const at::Tensor& weights,
                      const ExpertOrder& order, bool keep_less = false, Products products = Products::automatic);

}  // namespace norma
