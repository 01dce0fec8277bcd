#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace norma {

at::ScalarType accumulate_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace norma

namespace norma::reference {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor accumulate(const at::Tensor& x) {
  return x.to(accumulate_type(x.scalar_type()));
}

// ---- Products and embedding ----

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x, weight);
}

at::Tensor linear_input_gradient(const at::Tensor& grad, const at::Tensor& weight) {
  std::vector<std::int64_t> shape = grad.sizes().vec();
  shape.back() = weight.size(1);
  return at::mm(grad.reshape({-1, weight.size(0)}), weight).view(shape);
}

at::Tensor linear_weight_gradient(const at::Tensor& grad, const at::Tensor& x) {
  return at::mm(grad.reshape({-1, grad.size(-1)}).t(), x.reshape({-1, x.size(-1)}));
}

at::Tensor linear_per_head(const at::Tensor& x, const at::Tensor& weight) {
  return at::einsum("bthi,hoi->btho", {x, weight});
}

namespace {

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

}  // namespace

at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight) {
  return Embedding::apply(ids, weight);
}

// ---- Norms and the residual sum ----

// A zero row stays zero, also where eps is 0.
at::Tensor rms_factor(const at::Tensor& x, double eps) {
  const at::Tensor root = at::linalg_vector_norm(accumulate(x), 2, at::IntArrayRef{-1}, /*keepdim=*/true);  // [..., 1]
  return root.square_()
      .div_(static_cast<double>(x.size(-1)))
      .add_(eps)
      .clamp_min_(std::numeric_limits<float>::min())
      .rsqrt_();
}

RmsNormGradients rms_norm_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                                   const at::Tensor& scale) {
  const std::int64_t width = x.size(-1);
  const at::Tensor normed = at::mul(accumulate(x), scale);             // [..., n]
  const at::Tensor wide_grad = accumulate(grad);                       // [..., n]
  const at::Tensor product = at::mul(wide_grad, normed);               // [..., n]
  const at::Tensor grad_weight = product.reshape({-1, width}).sum(0);  // [n]
  const at::Tensor wide_weight = accumulate(weight);
  const at::Tensor mean = product.matmul(wide_weight).div_(static_cast<double>(width)).unsqueeze(-1);
  const at::Tensor grad_x = at::mul(wide_grad, wide_weight).sub_(normed * mean).mul_(scale);
  return {grad_x.to(x.scalar_type()), grad_weight.to(weight.scalar_type())};
}

namespace {

// Keeps x, the gain and one number per row; the normalized x is computed again in the backward pass.
struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const at::Tensor wide = accumulate(x), scale = rms_factor(wide, eps);  // [..., n], [..., 1]
    ctx->save_for_backward({x, weight, scale});
    return at::mul(wide, scale).to(x.scalar_type()).mul_(weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const RmsNormGradients gradients = rms_norm_backward(grads[0], saved[0], saved[1], saved[2]);
    return {gradients.x, gradients.weight, {}};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNorm::apply(x, weight, eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const double least = std::numeric_limits<float>::min();  // a constant row becomes zero, as in rms_norm
  return at::layer_norm(x, {x.size(-1)}, weight, /*bias=*/{}, std::max(eps, least));
}

at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta) {
  return at::add(alpha == 1.0 ? skip : skip * alpha, y, beta);
}

// ---- Rotary position embedding ----

namespace {

// First and second channels of all pairs, [..., E/2] each.
std::pair<at::Tensor, at::Tensor> split_pairs(const at::Tensor& x, RotaryPairs pairs) {
  const std::int64_t half = x.size(-1) / 2;
  if (pairs == RotaryPairs::halves) return {x.narrow(-1, 0, half), x.narrow(-1, half, half)};
  const at::Tensor two = x.unflatten(-1, {half, 2});  // [..., E/2, 2]
  return {two.select(-1, 0), two.select(-1, 1)};
}

struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            RotaryPairs pairs) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["pairs"] = static_cast<std::int64_t>(pairs);
    return rotate(x, {cos, sin, pairs}, 1.0);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto pairs = static_cast<RotaryPairs>(ctx->saved_data["pairs"].toInt());
    return {rotate(grads[0], {saved[0], saved[1], pairs}, -1.0), {}, {}, {}};
  }
};

}  // namespace

at::Tensor rotate(const at::Tensor& x, const RopeTable& table, double sign) {
  const at::Tensor wide = accumulate(x), out = at::empty(x.sizes(), wide.options());
  const auto [a, b] = split_pairs(wide, table.pairs);
  auto [first, second] = split_pairs(out, table.pairs);
  at::mul_out(first, a, table.cos).addcmul_(b, table.sin, -sign);
  at::mul_out(second, b, table.cos).addcmul_(a, table.sin, sign);
  return out.to(x.scalar_type());
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table) {
  return Rope::apply(x, table.cos, table.sin, table.pairs);
}

// ---- SwiGLU ----

at::Tensor swiglu_forward(const at::Tensor& up_gate) {
  const auto halves = up_gate.chunk(2, -1);  // up, gate: [..., F] each
  return at::silu(halves[1]).mul_(halves[0]);
}

at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& up_gate) {
  const auto halves = up_gate.chunk(2, -1);
  at::Tensor out = at::empty_like(up_gate);
  const auto parts = out.chunk(2, -1);
  at::Tensor grad_up = parts[0], grad_gate = parts[1];
  at::mul_out(grad_up, grad, at::silu(halves[1]));
  grad_gate.copy_(at::silu_backward(at::mul(grad, halves[0]), halves[1]));
  return out;
}

namespace {

// Keeps the projection only; silu(gate) is computed again in the backward pass.
struct Swiglu : torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& up_gate) {
    ctx->save_for_backward({up_gate});
    return swiglu_forward(up_gate);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {swiglu_backward(grads[0], ctx->get_saved_variables()[0])};
  }
};

}  // namespace

at::Tensor swiglu(const at::Tensor& up_gate) {
  return Swiglu::apply(up_gate);
}

// ---- Attention ----

at::Tensor padded(const at::Tensor& x, std::int64_t width) {
  return x.size(-1) == width ? x : at::constant_pad_nd(x, {0, width - x.size(-1)});
}

// The ATen call wants one width of keys and values: zeros after the last channel change no score, and the columns that
// they add to the result are cut off again.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     const std::optional<at::Tensor>& mask, double scale) {
  const std::int64_t width = std::max(q.size(-1), v.size(-1));
  at::Tensor keys = padded(k, width), values = padded(v, width);
  bool grouped = q.size(2) != k.size(2);
  if (grouped && q.is_cuda() && (mask || q.scalar_type() != at::kBFloat16)) {
    // On CUDA only the flash kernel reads keys groupwise, and it takes neither masks nor float32.
    keys = keys.repeat_interleave(q.size(2) / k.size(2), 2);
    values = values.repeat_interleave(q.size(2) / k.size(2), 2);
    grouped = false;
  }
  const at::Tensor out = at::scaled_dot_product_attention(  // [B, H, T, E]
      padded(q, width).transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), mask, /*dropout_p=*/0.0,
      causal && !mask, scale, grouped);
  const at::Tensor by_time = out.transpose(1, 2);  // [B, T, H, E]
  return v.size(-1) == width ? by_time : by_time.narrow(-1, 0, v.size(-1));
}

namespace {

// scores [B, T, H, S] times scale [B, S, H] or [B, S, 1].
at::Tensor scaled_by(const at::Tensor& scores, const at::Tensor& scale) {
  return scale.defined() ? scores * scale.transpose(1, 2).unsqueeze(1) : scores;
}

// Every head of every token against what all of them share: x [B, T, H, n], shared [B, S, n] -> [B, T, H, S].
at::Tensor against_shared(const at::Tensor& x, const at::Tensor& shared) {
  return at::matmul(x.flatten(1, 2), shared.transpose(1, 2)).unflatten(1, {x.size(1), x.size(2)});
}

}  // namespace

at::Tensor latent_attention(const at::Tensor& q, const at::Tensor& r, const LatentCacheView& cache, double scale,
                            const std::optional<at::Tensor>& mask) {
  const at::Tensor of_latent = accumulate(against_shared(q, cache.latent));  // [B, T, H, S]
  const at::Tensor of_rope = accumulate(against_shared(r, cache.rope_key));  // [B, T, H, S]
  at::Tensor scores = (scaled_by(of_latent, cache.key_scale_latent) + scaled_by(of_rope, cache.key_scale_rope)) * scale;
  if (mask) scores = scores.masked_fill(mask->transpose(1, 2).logical_not(), -INFINITY);
  const at::Tensor p = scaled_by(at::softmax(scores, -1), cache.value_scale);  // [B, T, H, S]
  return against_shared(p.to(q.scalar_type()), cache.latent.transpose(1, 2));  // [B, T, H, R]
}

}  // namespace norma::reference
