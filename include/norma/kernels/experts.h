// Mixture of experts as differentiable functions: choose experts, sort the tokens by expert, apply the experts, and sum
// each token's results. No token is dropped (megablocks, arXiv 2211.15841). Losses and their denominators are those of
// OLMoE (arXiv 2409.02060); the other rules of choice are those of DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437).
//
// Letters in shapes: N tokens, D model, E experts, k experts of a token, F inner width of an expert.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace norma {

struct RouterRule {
  std::int64_t top_k = 1;
  bool sigmoid = false;    // a score is the sigmoid of its logit; else scores are the softmax over all experts
  bool normalize = false;  // weights of a token are divided by their sum
  double scale = 1.0;      // factor on the weights, after that
  std::int64_t groups = 1, top_groups = 1;  // a token chooses within the best top_groups of `groups` equal groups
  bool group_of_two = false;                // a group is worth the sum of its two best scores; else its best score
};

// The losses are those of this batch of tokens, unweighted, with n_e the tokens of expert e and P_e the mean of its
// scores (sigmoid scores are first divided by their sum over the experts):
//   balance = E / (N k) * sum_e n_e P_e          1 at balance; its gradient flows through P only
//   z       = 1 / (N k) * sum_t (log sum_e exp logit)^2
// The 1/k of z is no slip: OLMoE divides both losses by the number of (token, expert) pairs.
struct Routing {
  at::Tensor experts;  // [N, k] int64, the best first; of equal ones the lower index
  at::Tensor weights;  // [N, k] in accumulate_type; differentiable
  at::Tensor balance;  // scalar, differentiable
  at::Tensor z;        // scalar, differentiable
  at::Tensor counts;   // [E] int64: pairs of each expert; they add up to N k
  at::Tensor entropy;  // scalar: sum over tokens of the entropy of their scores, in nats
};

// The (token, choice) pairs sorted by expert, those of one expert in the order of their tokens. The index of a pair is
// token * k + choice; its row is where it stands in the experts' order.
struct ExpertOrder {
  at::Tensor pairs;  // [N k] int64: the pair of each row
  at::Tensor rows;   // [N k] int64: the row of each pair
  at::Tensor ends;   // [E] int32: one past the last row of each expert
};

// How rows are multiplied by the experts' matrices: with a product for each expert, or with one at::_grouped_mm for
// all. automatic: one call for bf16 on CUDA where D and F are multiples of 8, else a product for each expert. Only one
// call does without the counts on the host, for which the others wait on CUDA.
enum class Products { automatic, per_expert, one_call };

namespace ops {

// logits [N, E]; bias [E] is added to the scores for the choice only.
Routing route(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule);

// experts [N, k] and counts [E] as in Routing.
ExpertOrder order_by_expert(const at::Tensor& experts, const at::Tensor& counts);

// y_t = sum over the choices of token t of weight * down_e (silu(gate_e x_t) * (up_e x_t)).
// x [N, D], up_gate [E, 2F, D] (rows of up, then of gate), down [E, D, F], weights [N, k] -> [N, D] of the type of x;
// the sum is formed in accumulate_type. keep_less: the backward pass gathers x by expert again instead of keeping it.
at::Tensor expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down, const at::Tensor& weights,
                      const ExpertOrder& order, bool keep_less = false, Products products = Products::automatic);

}  // namespace ops
}  // namespace norma
