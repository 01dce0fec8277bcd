#include <algorithm>
#include <limits>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "cpu_steps.h"

namespace norma {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::ScalarType accumulate_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

namespace {

at::Tensor accumulate(const at::Tensor& x) {
  return x.to(accumulate_type(x.scalar_type()));
}

// rsqrt(mean(x^2) + eps) of rows in accumulate_type, [..., n] -> [..., 1]; a zero row stays zero.
at::Tensor factor_of(const at::Tensor& wide, double eps) {
  const at::Tensor root = at::linalg_vector_norm(wide, 2, at::IntArrayRef{-1}, /*keepdim=*/true);
  return root.square_()
      .div_(static_cast<double>(wide.size(-1)))
      .add_(eps)
      .clamp_min_(std::numeric_limits<float>::min())
      .rsqrt_();
}

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& ids, const at::Tensor& weight) {
    ctx->save_for_backward({ids});
    ctx->saved_data["rows"] = weight.size(0);
    return at::embedding(weight, ids);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor ids = ctx->get_saved_variables()[0];
    const std::int64_t rows = ctx->saved_data["rows"].toInt();
    return {{}, at::embedding_dense_backward(accumulate(grads[0]), ids, rows, /*padding_idx=*/-1, false)};
  }
};

// Keeps x, the gain and one number per row; the normalized x is recomputed in backward.
struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    if (const std::optional<NormedRows> rows = cpu_rms_norm(x, weight, eps)) {
      ctx->save_for_backward({x, weight, rows->scale});
      return rows->y;
    }
    const at::Tensor wide = accumulate(x), scale = factor_of(wide, eps);  // [..., n], [..., 1]
    ctx->save_for_backward({x, weight, scale});
    return at::mul(wide, scale).to(x.scalar_type()).mul_(weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    const std::int64_t width = x.size(-1);
    const at::Tensor normed = at::mul(accumulate(x), scale);             // [..., n]
    const at::Tensor grad = accumulate(grads[0]);                        // [..., n]
    const at::Tensor product = at::mul(grad, normed);                    // [..., n]
    const at::Tensor grad_weight = product.reshape({-1, width}).sum(0);  // [n]
    const at::Tensor wide_weight = accumulate(weight);
    const at::Tensor mean = product.matmul(wide_weight).div_(static_cast<double>(width)).unsqueeze(-1);
    const at::Tensor grad_x = at::mul(grad, wide_weight).sub_(normed * mean).mul_(scale);
    return {grad_x.to(x.scalar_type()), grad_weight.to(weight.scalar_type()), {}};
  }
};

// Keeps the projection only; silu(gate) is recomputed in backward.
struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& up_gate) {
    ctx->save_for_backward({up_gate});
    if (const std::optional<at::Tensor> out = cpu_swiglu(up_gate)) return *out;
    const auto halves = up_gate.chunk(2, -1);  // up, gate: [..., F] each
    return at::silu(halves[1]).mul_(halves[0]);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor up_gate = ctx->get_saved_variables()[0];
    const auto halves = up_gate.chunk(2, -1);
    at::Tensor grad = at::empty_like(up_gate);
    const auto grad_halves = grad.chunk(2, -1);
    at::Tensor grad_up = grad_halves[0], grad_gate = grad_halves[1];
    at::mul_out(grad_up, grads[0], at::silu(halves[1]));
    grad_gate.copy_(at::silu_backward(at::mul(grads[0], halves[0]), halves[1]));
    return {grad};
  }
};

struct ChunkOptions {
  double scale, z_weight;
  std::int64_t chunk_tokens;
  bool with_gradients;
};

struct LossResult {
  at::Tensor loss, token_ce, token_lse, grad_hidden, grad_weight;
};

constexpr std::int64_t kRowsAtOnce = 8192;  // of a product that is narrower than its sum

// sum [m, n] += a [m, k] b [k, n], made when it is not there yet. A sum of a wider type takes a few rows at a time, so
// that the product never exists as a whole.
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

// One pass over the tokens, chunk by chunk. d loss / d logit = scale * (p (1 + 2 z lse) - onehot). What is as large as
// the logits goes as soon as it can: this is where a small model's memory peaks.
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
    at::Tensor logits = ops::linear(h, weight).to(wide.dtype());                               // [c, V]
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
    return {saved[0].mul_(outer), saved[1].mul_(outer), {}, {}, {}, {}};  // once only: the graph is not kept
  }
};

}  // namespace

namespace ops {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x, weight);
}

at::Tensor linear_per_head(const at::Tensor& x, const at::Tensor& weight) {
  return at::einsum("bthi,hoi->btho", {x, weight});
}

at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight) {
  return Embedding::apply(ids, weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  NORMA_CHECK(x.size(-1) == weight.numel(), "[rms_norm] width of x ", x.size(-1), ", of the gain ", weight.numel());
  return RmsNorm::apply(x, weight, eps);
}

at::Tensor rms_factor(const at::Tensor& x, double eps) {
  return factor_of(accumulate(x), eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const double least = std::numeric_limits<float>::min();  // a constant row becomes zero, as in rms_norm
  return at::layer_norm(x, {x.size(-1)}, weight, /*bias=*/{}, std::max(eps, least));
}

at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta) {
  return at::add(alpha == 1.0 ? skip : skip * alpha, y, beta);
}

at::Tensor swiglu(const at::Tensor& up_gate) {
  return Swiglu::apply(up_gate);
}

CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                  double scale, double z_weight, std::int64_t chunk_tokens) {
  NORMA_CHECK(hidden.dim() == 2 && targets.numel() == hidden.size(0), "[linear_cross_entropy] hidden ", hidden.sizes(),
              ", targets ", targets.sizes());
  if (at::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad())) {
    const variable_list out = LinearCrossEntropy::apply(hidden, weight, targets, scale, z_weight, chunk_tokens);
    return {out[0], out[1], out[2]};
  }
  const LossResult result = chunked_cross_entropy(hidden, weight, targets, {scale, z_weight, chunk_tokens, false});
  return {result.loss, result.token_ce, result.token_lse};
}

}  // namespace ops
}  // namespace norma
