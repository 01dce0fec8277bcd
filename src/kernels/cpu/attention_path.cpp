// Attention by the loops of attention_loops.h.
#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/thread_pool.h"

#include "cpu/attention_loops.h"
#include "cpu/paths.h"
#include "reference.h"

namespace norma::cpu {
namespace {

constexpr std::int64_t kLeastTime = 64;  // below, the reference is as fast

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows must be dense; batch, time and heads may have any stride.
at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

// A whole call: its groups are those of each kv head of each row of the batch.
struct CallShape {
  GroupShape group;
  std::int64_t batch, kv_heads;
};

CallShape shape_of(const at::Tensor& q, const at::Tensor& k, double scale) {
  return {
      {q.size(1), q.size(3), q.size(2) / k.size(2), element_of(q), static_cast<float>(scale)}, q.size(0), k.size(2)};
}

// The heads of x [B, T, heads, E] that belong to kv head `kv` of batch row `b`: `count` of them.
Heads heads_of(const at::Tensor& x, std::int64_t b, std::int64_t kv, std::int64_t count) {
  auto* const data = static_cast<char*>(x.data_ptr());
  const std::int64_t offset = b * x.stride(0) + kv * count * x.stride(2);
  return {data + offset * static_cast<std::int64_t>(x.element_size()), x.stride(1), x.stride(2)};
}

// body(batch row, kv head, workspace); the query heads of one kv head stay on one thread.
template <class Body>
void for_each_group(const CallShape& shape, Body&& body) {
  parallel_ranges(shape.batch * shape.kv_heads, at::get_num_threads(), [&](std::int64_t begin, std::int64_t end) {
    Workspace workspace;
    for (std::int64_t i = begin; i < end; ++i) body(i / shape.kv_heads, i % shape.kv_heads, workspace);
  });
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, double scale) {
    const at::Tensor q = with_dense_rows(queries), k = with_dense_rows(keys), v = with_dense_rows(values);
    const CallShape shape = shape_of(q, k, scale);
    const std::int64_t heads = shape.group.heads, time = shape.group.time;
    const at::Tensor out = at::empty(q.sizes(), q.options());                                       // [B, T, H, E]
    const at::Tensor lse = at::empty({q.size(0), q.size(2), time}, q.options().dtype(at::kFloat));  // [B, H, T]
    for_each_group(shape, [&](std::int64_t b, std::int64_t kv, Workspace& workspace) {
      attention_forward(shape.group, heads_of(q, b, kv, heads), heads_of(k, b, kv, 1), heads_of(v, b, kv, 1),
                        heads_of(out, b, kv, heads),
                        lse.mutable_data_ptr<float>() + (b * q.size(2) + kv * heads) * time, workspace);
    });
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4];
    const at::Tensor grad_out = with_dense_rows(grads[0]);
    const CallShape shape = shape_of(q, k, ctx->saved_data["scale"].toDouble());
    const std::int64_t heads = shape.group.heads, time = shape.group.time;
    const at::Tensor grad_q = at::empty(q.sizes(), q.options());
    const at::Tensor grad_k = at::empty(k.sizes(), k.options()), grad_v = at::empty(v.sizes(), v.options());
    for_each_group(shape, [&](std::int64_t b, std::int64_t kv, Workspace& workspace) {
      attention_backward(shape.group, heads_of(q, b, kv, heads), heads_of(k, b, kv, 1), heads_of(v, b, kv, 1),
                         heads_of(out, b, kv, heads), heads_of(grad_out, b, kv, heads),
                         lse.const_data_ptr<float>() + (b * q.size(2) + kv * heads) * time,
                         {heads_of(grad_q, b, kv, heads), heads_of(grad_k, b, kv, 1), heads_of(grad_v, b, kv, 1)},
                         workspace);
    });
    return {grad_q, grad_k, grad_v, {}};
  }
};

}  // namespace

Support Attention::supports(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                            const std::optional<at::Tensor>& mask, double /*scale*/) {
  if (const Support elements = supports_elements(q); !elements) return elements;
  if (mask) return {"there is a mask"};
  if (!causal || q.size(1) != k.size(1)) return {"it is not causal over the whole sequence"};
  if (q.size(1) < kLeastTime) return {"the sequence has fewer than 64 tokens"};
  if (std::max(q.size(-1), v.size(-1)) % 16 != 0) return {"the width of a head is no multiple of 16"};
  return {};
}

// Keys and values get one width, as in the reference.
at::Tensor Attention::run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool /*causal*/,
                          const std::optional<at::Tensor>& /*mask*/, double scale) {
  using reference::padded;
  const std::int64_t width = std::max(q.size(-1), v.size(-1));
  const at::Tensor out = AttentionFunction::apply(padded(q, width), padded(k, width), padded(v, width), scale);
  return v.size(-1) == width ? out : out.narrow(-1, 0, v.size(-1));  // [B, T, H, Ev]
}

}  // namespace norma::cpu
