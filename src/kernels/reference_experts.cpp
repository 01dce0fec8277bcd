// The reference of experts: which of them a token goes to, with what weight, the losses that keep the choice in
// balance, and what the experts make of the tokens.
#include <limits>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "reference.h"

namespace norma::reference {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLeastSum = 1e-20;  // added to the sum that divides a token's weights, as DeepSeek does

// Experts outside of a token's best groups become -inf. choice [N, E].
at::Tensor limit_to_groups(const at::Tensor& choice, const RouterRule& rule, TopK top_k) {
  const at::Tensor grouped = choice.unflatten(1, {rule.groups, -1});  // [N, G, E/G]
  const at::Tensor worth =                                            // [N, G]
      rule.group_of_two ? std::get<0>(grouped.topk(2, -1)).sum(-1) : grouped.amax(-1);
  const at::Tensor best = top_k(worth, rule.top_groups);  // [N, g]
  const at::Tensor outside = at::ones(worth.sizes(), worth.options().dtype(at::kBool)).scatter_(1, best, false);
  return grouped.masked_fill(outside.unsqueeze(-1), -std::numeric_limits<double>::infinity()).flatten(1);
}

at::Tensor choose_experts(const at::Tensor& scores, const std::optional<at::Tensor>& bias, const RouterRule& rule,
                          TopK top_k) {
  at::Tensor choice = bias ? scores + bias->to(scores.scalar_type()) : scores;  // [N, E]
  if (rule.top_groups < rule.groups) choice = limit_to_groups(choice, rule, top_k);
  return top_k(choice, rule.top_k);
}

// Scores that add up to one over the experts.
at::Tensor as_distribution(const at::Tensor& scores, bool sigmoid) {
  return sigmoid ? scores / scores.sum(1, /*keepdim=*/true).add_(kLeastSum) : scores;
}

struct Route : torch::autograd::Function<Route> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& logits, const std::optional<at::Tensor>& bias,
                               const RouterRule& rule, TopK top_k) {
    ctx->set_materialize_grads(false);
    const std::int64_t tokens = logits.size(0), experts = logits.size(1);
    const double pairs = static_cast<double>(tokens * rule.top_k);
    const at::Tensor lse = at::logsumexp(logits, 1);                                        // [N]
    const at::Tensor scores = rule.sigmoid ? at::sigmoid(logits) : at::softmax(logits, 1);  // [N, E]
    const at::Tensor chosen = choose_experts(scores, bias, rule, top_k);                    // [N, k]
    const at::Tensor counts = at::zeros({experts}, chosen.options())                        // [E]
                                  .scatter_add_(0, chosen.flatten(), at::ones_like(chosen).flatten());
    at::Tensor weights = scores.gather(1, chosen);  // [N, k]
    if (rule.normalize) weights = weights / weights.sum(1, true).add_(kLeastSum);
    if (rule.scale != 1.0) weights = weights * rule.scale;
    const at::Tensor spread = as_distribution(scores, rule.sigmoid);  // [N, E]
    const at::Tensor balance = (spread.mean(0) * counts).sum().mul_(static_cast<double>(experts) / pairs);
    const at::Tensor z = lse.square().sum().div_(pairs);
    const at::Tensor entropy = at::special_entr(spread).sum();
    ctx->save_for_backward({logits, scores, lse, chosen, counts, weights});
    ctx->saved_data["sigmoid"] = rule.sigmoid;
    ctx->saved_data["normalize"] = rule.normalize;
    ctx->saved_data["scale"] = rule.scale;
    ctx->mark_non_differentiable({chosen, counts, entropy});
    return {chosen, weights, balance, z, counts, entropy};
  }

  // d loss / d weights -> d loss / d scores [N, E], zero where not chosen.
  static at::Tensor through_weights(AutogradContext* ctx, const at::Tensor& grad, const variable_list& saved) {
    const at::Tensor &scores = saved[1], &chosen = saved[3], &weights = saved[5];
    const double scale = ctx->saved_data["scale"].toDouble();
    at::Tensor of_chosen = grad * scale;  // [N, k]
    if (ctx->saved_data["normalize"].toBool()) {
      const at::Tensor sum = scores.gather(1, chosen).sum(1, true).add_(kLeastSum);  // [N, 1]
      of_chosen = (of_chosen - (grad * weights).sum(1, true)) / sum;
    }
    return at::zeros_like(scores).scatter_(1, chosen, of_chosen);
  }

  static at::Tensor through_balance(const at::Tensor& grad, const variable_list& saved, bool sigmoid) {
    const at::Tensor &scores = saved[1], &chosen = saved[3], &counts = saved[4];
    const double tokens = static_cast<double>(scores.size(0)), pairs = static_cast<double>(chosen.numel());
    const at::Tensor slope = counts.to(scores.scalar_type()) * (static_cast<double>(scores.size(1)) / (pairs * tokens));
    const at::Tensor of_spread = slope * grad;  // [E], the same for every token
    if (!sigmoid) return of_spread;
    const at::Tensor sum = scores.sum(1, true).add_(kLeastSum);  // [N, 1]
    return (of_spread - (scores / sum * of_spread).sum(1, true)) / sum;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &logits = saved[0], &scores = saved[1], &lse = saved[2], &chosen = saved[3];
    const bool sigmoid = ctx->saved_data["sigmoid"].toBool();
    at::Tensor of_scores = grads[1].defined() ? through_weights(ctx, grads[1], saved) : at::zeros_like(scores);
    if (grads[2].defined()) of_scores.add_(through_balance(grads[2], saved, sigmoid));
    at::Tensor of_logits;  // [N, E]
    if (sigmoid) {
      of_logits = of_scores.mul_(scores).mul_(1.0 - scores);
    } else {
      of_logits = scores * (of_scores - (of_scores * scores).sum(1, true));
    }
    if (grads[3].defined()) {
      const at::Tensor softmax = sigmoid ? (logits - lse.unsqueeze(1)).exp_() : scores;
      const double factor = 2.0 / static_cast<double>(chosen.numel());
      of_logits.add_(softmax * (lse * (grads[3] * factor)).unsqueeze(1));
    }
    return {of_logits, {}, {}, {}};
  }
};

}  // namespace

at::Tensor top_k(const at::Tensor& values, std::int64_t k) {
  return std::get<1>(at::sort(values, /*stable=*/true, 1, /*descending=*/true)).narrow(1, 0, k);
}

Routing route_with(TopK top_k, const at::Tensor& logits, const std::optional<at::Tensor>& bias,
                   const RouterRule& rule) {
  const std::optional<at::Tensor> fixed = bias ? std::optional(bias->detach()) : std::nullopt;
  const variable_list out = Route::apply(accumulate(logits), fixed, rule, top_k);
  return {out[0], out[1], out[2], out[3], out[4], out[5]};
}

Routing route(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule) {
  return route_with(top_k, logits, bias, rule);
}

ExpertOrder order_by_expert(const at::Tensor& experts, const at::Tensor& counts) {
  const at::Tensor pairs = std::get<1>(at::sort(experts.flatten(), /*stable=*/true, 0, /*descending=*/false));
  const at::Tensor rows = at::empty_like(pairs).scatter_(0, pairs, at::arange(pairs.numel(), pairs.options()));
  return {pairs, rows, counts.cumsum(0).to(at::kInt)};
}

at::Tensor expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down, const at::Tensor& weights,
                      const ExpertOrder& order, bool /*keep_less*/, Products /*products*/) {
  const at::Tensor ends = order.ends.to(at::kCPU, at::kLong);
  const at::Tensor rows = x.index_select(0, order.pairs.floor_divide(weights.size(1)));  // [N k, D]
  const auto first = up_gate.unbind(0), second = down.unbind(0);
  TensorList results;
  std::int64_t begin = 0;
  for (std::size_t e = 0; e < first.size(); ++e) {
    const std::int64_t end = ends.const_data_ptr<std::int64_t>()[e];
    const at::Tensor projected = reference::linear(rows.narrow(0, begin, end - begin), first[e]);
    results.push_back(reference::linear(swiglu(projected), second[e]));
    begin = end;
  }
  const at::Tensor by_token = at::cat(results)  // [N k, D], by expert
                                  .index_select(0, order.rows)
                                  .view({x.size(0), weights.size(1), x.size(1)});    // [N, k, D]
  return (accumulate(by_token) * weights.unsqueeze(-1)).sum(1).to(x.scalar_type());  // [N, D]
}

}  // namespace norma::reference
