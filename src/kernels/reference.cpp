#include <algorithm>
#include <limits>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "fused_attention.h"
#include "kernel_path.h"

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
    const at::Tensor wide = accumulate(x);
    const at::Tensor root = at::linalg_vector_norm(wide, 2, at::IntArrayRef{-1}, /*keepdim=*/true);  // [..., 1]
    const at::Tensor scale = root.square_()
                                 .div_(static_cast<double>(x.size(-1)))
                                 .add_(eps)
                                 .clamp_min_(std::numeric_limits<float>::min())
                                 .rsqrt_();  // a zero row stays zero
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

// [B, T, h, E] rotated by the angles of `table`; sign -1 is the inverse rotation.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double sign) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor wide = accumulate(x);
  const at::Tensor a = wide.narrow(-1, 0, half), b = wide.narrow(-1, half, half);
  at::Tensor out = at::empty(x.sizes(), wide.options());
  at::Tensor first = out.narrow(-1, 0, half), second = out.narrow(-1, half, half);
  at::mul_out(first, a, cos).addcmul_(b, sin, -sign);
  at::mul_out(second, b, cos).addcmul_(a, sin, sign);
  return out.to(x.scalar_type());
}

struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotate(x, cos, sin, 1.0);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {rotate(grads[0], saved[0], saved[1], -1.0), {}, {}};
  }
};

// Keeps the projection only; silu(gate) is recomputed in backward.
struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& up_gate) {
    ctx->save_for_backward({up_gate});
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
    at::Tensor logits = at::mm(h, weight.t()).to(wide.dtype());                                // [c, V]
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

at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight) {
  return Embedding::apply(ids, weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  NORMA_CHECK(x.size(-1) == weight.numel(), "[rms_norm] width of x ", x.size(-1), ", of the gain ", weight.numel());
  return RmsNorm::apply(x, weight, eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const double least = std::numeric_limits<float>::min();  // a constant row becomes zero, as in rms_norm
  return at::layer_norm(x, {x.size(-1)}, weight, /*bias=*/{}, std::max(eps, least));
}

at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta) {
  return at::add(alpha == 1.0 ? skip : skip * alpha, y, beta);
}

RopeTable RopeTable::slice(std::int64_t begin, std::int64_t length) const {
  return {cos.narrow(0, begin, length), sin.narrow(0, begin, length)};
}

RopeTable make_rope_table(std::int64_t length, std::int64_t head_dim, double theta, at::ScalarType type,
                          at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor exponent = at::arange(0, head_dim, 2, options) / static_cast<double>(head_dim);  // [E/2]
  const at::Tensor frequency = at::pow(theta, exponent.neg());
  const at::Tensor angle = at::outer(at::arange(length, options), frequency).unsqueeze(1);  // [T, 1, E/2]
  const at::ScalarType wide = accumulate_type(type);
  return {angle.cos().to(device, wide), angle.sin().to(device, wide)};
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table) {
  NORMA_CHECK(x.size(1) == table.cos.size(0), "[rope] time of x ", x.size(1), ", of the table ", table.cos.size(0));
  return Rope::apply(x, table.cos, table.sin);
}

namespace {

KernelPath g_path = KernelPath::automatic;

}  // namespace

bool takes_fused_path(bool supported, const char* op) {
  NORMA_CHECK(supported || g_path != KernelPath::fused, "[", op, "] no fused kernel supports these arguments");
  return supported && g_path != KernelPath::reference;
}

void set_kernel_path(KernelPath path) {
  g_path = path;
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     const std::optional<at::Tensor>& mask) {
  if (takes_fused_path(fused_attention_supports(q, k, causal, mask.has_value()), "attention")) {
    return fused_attention(q, k, v);
  }
  bool grouped = q.size(2) != k.size(2);
  at::Tensor keys = k, values = v;
  if (grouped && q.is_cuda() && (mask || q.scalar_type() != at::kBFloat16)) {
    // On CUDA only the flash kernel reads keys groupwise, and it takes neither masks nor float32.
    keys = k.repeat_interleave(q.size(2) / k.size(2), 2);
    values = v.repeat_interleave(q.size(2) / k.size(2), 2);
    grouped = false;
  }
  const at::Tensor out = at::scaled_dot_product_attention(  // [B, H, T, E]
      q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), mask, /*dropout_p=*/0.0, causal && !mask,
      /*scale=*/std::nullopt, grouped);
  return out.transpose(1, 2);  // [B, T, H, E]
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

}  // namespace norma
