// Which experts a token goes to, with what weight, and the losses that keep the choice in balance.
#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/error.h"
#include "norma/kernels/experts.h"
#include "norma/kernels/ops.h"

namespace norma {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLeastSum = 1e-20;  // DeepSeek's, below the sum of a token's weights

// The k largest of each of `rows` rows; of equal values, and behind a NaN, the one that stands first.
template <class T>
void choose_rows(const T* values, std::int64_t width, std::int64_t k, std::int64_t begin, std::int64_t end,
                 std::int64_t* out) {
  std::vector<char> taken(static_cast<std::size_t>(width));
  for (std::int64_t row = begin; row < end; ++row) {
    const T* const v = values + row * width;
    std::fill(taken.begin(), taken.end(), 0);
    for (std::int64_t j = 0; j < k; ++j) {
      std::int64_t best = -1;
      for (std::int64_t e = 0; e < width; ++e) {
        if (!taken[static_cast<std::size_t>(e)] && (best < 0 || v[e] > v[best])) best = e;
      }
      taken[static_cast<std::size_t>(best)] = 1;
      out[row * k + j] = best;
    }
  }
}

// values [N, M] -> [N, k]: numbers of the k largest, the largest first; of equal ones the lower number.
at::Tensor stable_top_k(const at::Tensor& values, std::int64_t k) {
  if (!values.is_cpu()) return std::get<1>(at::sort(values, /*stable=*/true, 1, /*descending=*/true)).narrow(1, 0, k);
  const at::Tensor dense = values.contiguous();
  const std::int64_t rows = dense.size(0), width = dense.size(1);
  at::Tensor chosen = at::empty({rows, k}, values.options().dtype(at::kLong));
  auto* const out = chosen.mutable_data_ptr<std::int64_t>();
  at::parallel_for(0, rows, 256, [&](std::int64_t begin, std::int64_t end) {
    if (dense.scalar_type() == at::kDouble) {
      choose_rows(dense.const_data_ptr<double>(), width, k, begin, end, out);
    } else {
      choose_rows(dense.const_data_ptr<float>(), width, k, begin, end, out);
    }
  });
  return chosen;
}

// Experts outside of a token's best groups become -inf. choice [N, E].
at::Tensor limit_to_groups(const at::Tensor& choice, const RouterRule& rule) {
  const at::Tensor grouped = choice.unflatten(1, {rule.groups, -1});  // [N, G, E/G]
  const at::Tensor worth =                                            // [N, G]
      rule.group_of_two ? std::get<0>(grouped.topk(2, -1)).sum(-1) : grouped.amax(-1);
  const at::Tensor best = stable_top_k(worth, rule.top_groups);  // [N, g]
  const at::Tensor outside = at::ones(worth.sizes(), worth.options().dtype(at::kBool)).scatter_(1, best, false);
  return grouped.masked_fill(outside.unsqueeze(-1), -std::numeric_limits<double>::infinity()).flatten(1);
}

at::Tensor choose_experts(const at::Tensor& scores, const std::optional<at::Tensor>& bias, const RouterRule& rule) {
  at::Tensor choice = bias ? scores + bias->to(scores.scalar_type()) : scores;  // [N, E]
  if (rule.top_groups < rule.groups) choice = limit_to_groups(choice, rule);
  return stable_top_k(choice, rule.top_k);
}

// Scores that add up to one over the experts.
at::Tensor as_distribution(const at::Tensor& scores, bool sigmoid) {
  return sigmoid ? scores / scores.sum(1, /*keepdim=*/true).add_(kLeastSum) : scores;
}

struct Route : torch::autograd::Function<Route> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& logits, const std::optional<at::Tensor>& bias,
                               const RouterRule& rule) {
    ctx->set_materialize_grads(false);
    const std::int64_t tokens = logits.size(0), experts = logits.size(1);
    const double pairs = static_cast<double>(tokens * rule.top_k);
    const at::Tensor lse = at::logsumexp(logits, 1);                                        // [N]
    const at::Tensor scores = rule.sigmoid ? at::sigmoid(logits) : at::softmax(logits, 1);  // [N, E]
    const at::Tensor chosen = choose_experts(scores, bias, rule);                           // [N, k]
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
    return {of_logits, {}, {}};
  }
};

}  // namespace

Routing ops::route(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule) {
  NORMA_CHECK(logits.dim() == 2 && rule.top_k <= logits.size(1), "[route] logits ", logits.sizes(), ", top_k ",
              rule.top_k);
  NORMA_CHECK(!bias || bias->numel() == logits.size(1), "[route] logits ", logits.sizes(),
              ", the bias has another size");
  const std::optional<at::Tensor> fixed = bias ? std::optional(bias->detach()) : std::nullopt;
  const variable_list out = Route::apply(logits.to(accumulate_type(logits.scalar_type())), fixed, rule);
  return {out[0], out[1], out[2], out[3], out[4], out[5]};
}

}  // namespace norma
