#include "fused_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norma/base/thread_pool.h"

#include "cpu_attention.h"

namespace norma {
namespace {

constexpr std::int64_t kLeastTime = 64;  // below, the reference is as fast

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows must be dense; batch, time and heads may have any stride.
at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

// The heads of x [B, T, heads, E] that belong to kv head `kv` of batch `b`.
cpu::Heads group_of(const at::Tensor& x, std::int64_t b, std::int64_t kv, std::int64_t group) {
  auto* const data = static_cast<char*>(x.data_ptr());
  const std::int64_t offset = b * x.stride(0) + kv * group * x.stride(2);
  return {data + offset * static_cast<std::int64_t>(x.element_size()), x.stride(1), x.stride(2)};
}

struct Problem {
  cpu::GroupShape shape;
  std::int64_t batch, kv_heads;
};

Problem problem_of(const at::Tensor& q, const at::Tensor& k, double scale) {
  const bool bf16 = q.scalar_type() == at::kBFloat16;
  return {{q.size(1), q.size(3), q.size(2) / k.size(2), bf16 ? cpu::Element::bfloat16 : cpu::Element::float32,
           static_cast<float>(scale)},
          q.size(0),
          k.size(2)};
}

// body(batch, kv head, workspace); the query heads of one kv head stay on one thread.
template <class Body>
void for_each_group(const Problem& problem, Body&& body) {
  const std::int64_t groups = problem.batch * problem.kv_heads;
  parallel_ranges(groups, at::get_num_threads(), [&](std::int64_t begin, std::int64_t end) {
    cpu::Workspace workspace;
    for (std::int64_t i = begin; i < end; ++i) body(i / problem.kv_heads, i % problem.kv_heads, workspace);
  });
}

struct FusedAttention : torch::autograd::Function<FusedAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, double scale) {
    const at::Tensor q = with_dense_rows(queries), k = with_dense_rows(keys), v = with_dense_rows(values);
    const Problem problem = problem_of(q, k, scale);
    const std::int64_t group = problem.shape.heads, time = problem.shape.time;
    const at::Tensor out = at::empty(q.sizes(), q.options());                                       // [B, T, H, E]
    const at::Tensor lse = at::empty({q.size(0), q.size(2), time}, q.options().dtype(at::kFloat));  // [B, H, T]
    for_each_group(problem, [&](std::int64_t b, std::int64_t kv, cpu::Workspace& workspace) {
      cpu::attention_forward(problem.shape, group_of(q, b, kv, group), group_of(k, b, kv, 1), group_of(v, b, kv, 1),
                             group_of(out, b, kv, group),
                             lse.mutable_data_ptr<float>() + (b * q.size(2) + kv * group) * time, workspace);
    });
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4];
    const at::Tensor grad_out = with_dense_rows(grads[0]);
    const Problem problem = problem_of(q, k, ctx->saved_data["scale"].toDouble());
    const std::int64_t group = problem.shape.heads, time = problem.shape.time;
    const at::Tensor grad_q = at::empty(q.sizes(), q.options());
    const at::Tensor grad_k = at::empty(k.sizes(), k.options()), grad_v = at::empty(v.sizes(), v.options());
    for_each_group(problem, [&](std::int64_t b, std::int64_t kv, cpu::Workspace& workspace) {
      cpu::attention_backward(problem.shape, group_of(q, b, kv, group), group_of(k, b, kv, 1), group_of(v, b, kv, 1),
                              group_of(out, b, kv, group), group_of(grad_out, b, kv, group),
                              lse.const_data_ptr<float>() + (b * q.size(2) + kv * group) * time,
                              {group_of(grad_q, b, kv, group), group_of(grad_k, b, kv, 1), group_of(grad_v, b, kv, 1)},
                              workspace);
    });
    return {grad_q, grad_k, grad_v, {}};
  }
};

}  // namespace

bool fused_attention_supports(const at::Tensor& q, const at::Tensor& k, bool causal, bool masked) {
  const bool type = q.scalar_type() == at::kFloat || q.scalar_type() == at::kBFloat16;
  return causal && !masked && q.is_cpu() && type && q.size(-1) % 16 == 0 && q.size(1) == k.size(1) &&
         q.size(1) >= kLeastTime;
}

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  return FusedAttention::apply(q, k, v, scale);
}

}  // namespace norma
