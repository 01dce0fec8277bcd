// The reference of the head and its loss.
#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "reference.h"

namespace norma::reference {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct ChunkOptions {
  double scale, z_weight;
  std::int64_t chunk_tokens;
  bool with_gradients;
};

struct LossResult {
  at::Tensor loss, token_ce, token_lse, grad_hidden, grad_weight;
};

constexpr std::int64_t kRowsAtOnce = 8192;  // of a product whose sum has a wider type

// sum [m, n] += a [m, k] b [k, n]; an undefined sum starts at zero. A sum of a wider type takes a few rows at a time,
// so that the product never exists as a whole.
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b, at::ScalarType type) {
  if (!sum.defined()) sum = at::zeros({a.size(0), b.size(1)}, a.options().dtype(type));
  if (a.scalar_type() == type) {
    sum.addmm_(a, b);
    return;
  }
  for (std::int64_t begin = 0; begin < a.size(0); begin += kRowsAtOnce) {
    const std::int64_t count = std::min(kRowsAtOnce, a.size(0) - begin);
    sum.narrow(0, begin, count).add_(at::mm(a.narrow(0, begin, count), b));
  }
}

// One pass over the tokens, chunk by chunk. d loss / d logit = scale * (p (1 + 2 z lse) - onehot). Tensors as
// large as the logits are released as soon as they can be: the memory of a small model peaks here.
LossResult chunked_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                 const ChunkOptions& options) {
  const std::int64_t tokens = hidden.size(0);
  const auto wide = hidden.options().dtype(accumulate_type(hidden.scalar_type()));
  LossResult result;
  result.token_ce = at::empty({tokens}, wide);
  result.token_lse = at::empty({tokens}, wide);
  if (options.with_gradients) result.grad_hidden = at::empty_like(hidden);
  const at::Tensor has_target = targets.ne(kIgnoreToken);             // [N]
  const at::Tensor safe_targets = targets.clamp_min(0).unsqueeze(1);  // [N, 1]
  for (std::int64_t begin = 0; begin < tokens; begin += options.chunk_tokens) {
    const std::int64_t count = std::min(options.chunk_tokens, tokens - begin);
    const at::Tensor h = hidden.narrow(0, begin, count);                                       // [c, D]
    const at::Tensor target = safe_targets.narrow(0, begin, count);                            // [c, 1]
    const at::Tensor keep = has_target.narrow(0, begin, count).to(wide.dtype()).unsqueeze(1);  // [c, 1]
    at::Tensor logits = reference::linear(h, weight).to(wide.dtype());                         // [c, V]
    at::Tensor log_p = at::log_softmax(logits, 1);                                             // [c, V]
    const at::Tensor ce = log_p.gather(1, target).neg_();                                      // [c, 1]
    const at::Tensor lse = logits.gather(1, target).add_(ce);                                  // [c, 1]
    result.token_ce.narrow(0, begin, count).copy_((ce * keep).squeeze(1));
    result.token_lse.narrow(0, begin, count).copy_((lse * keep).squeeze(1));
    if (!options.with_gradients) continue;
    logits.reset();
    at::Tensor grad = log_p.exp_();  // [c, V]
    log_p.reset();
    if (options.z_weight != 0.0) grad.mul_(lse.mul(2.0 * options.z_weight).add_(1.0));
    grad.scatter_add_(1, target, grad.new_full({1, 1}, -1.0).expand({count, 1}));
    grad.mul_(keep.mul_(options.scale));
    grad = grad.to(hidden.scalar_type());
    at::Tensor grad_h = result.grad_hidden.narrow(0, begin, count);
    at::mm_out(grad_h, grad, weight);
    add_product(result.grad_weight, grad.t(), h, accumulate_type(hidden.scalar_type()));  // [V, D]
  }
  result.loss = result.token_ce.sum().mul_(options.scale);
  if (options.z_weight != 0.0) {
    result.loss.add_(result.token_lse.square().sum().mul_(options.scale * options.z_weight));
  }
  return result;
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& weight,
                               const at::Tensor& targets, double scale, double z_weight, std::int64_t chunk_tokens) {
    const LossResult result = chunked_cross_entropy(hidden, weight, targets, {scale, z_weight, chunk_tokens, true});
    ctx->save_for_backward({result.grad_hidden, result.grad_weight});
    ctx->mark_non_differentiable({result.token_ce, result.token_lse});
    return {result.loss, result.token_ce, result.token_lse};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& outer = grads[0];
    return {saved[0].mul_(outer), saved[1].mul_(outer), {}, {}, {}, {}};  // in place: the graph is walked once
  }
};

}  // namespace

CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                  double scale, double z_weight, std::int64_t chunk_tokens) {
  if (at::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad())) {
    const variable_list out = LinearCrossEntropy::apply(hidden, weight, targets, scale, z_weight, chunk_tokens);
    return {out[0], out[1], out[2]};
  }
  const LossResult result = chunked_cross_entropy(hidden, weight, targets, {scale, z_weight, chunk_tokens, false});
  return {result.loss, result.token_ce, result.token_lse};
}

}  // namespace norma::reference
