// The one place that chooses between the reference of an op and its fused paths, which are pairs of supports() and
// run(). It checks the arguments of every op, so that no path has to.
#include <atomic>
#include <cmath>

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include "norma/base/error.h"

#include "cpu/paths.h"
#include "grouped_experts.h"
#include "reference.h"

namespace norma {
namespace {

KernelPath g_path = KernelPath::automatic;
KernelNote g_note;

// The index of an op in kKernelOps; another name does not compile.
consteval std::size_t op(std::string_view name) {
  for (std::size_t i = 0; i < kKernelOps.size(); ++i) {
    if (kKernelOps[i].name == name) return i;
  }
  throw "the table of ops has no such name";
}

// The reasons that were noted for each op, known by the addresses of their literals: no call takes a lock.
constexpr std::size_t kMostReasons = 8;
std::array<std::array<std::atomic<const char*>, kMostReasons>, kKernelOps.size()> g_noted;

void note_once(std::size_t op, const char* reason) {
  for (std::atomic<const char*>& noted : g_noted[op]) {
    const char* other = noted.load(std::memory_order_relaxed);
    if (other == nullptr && noted.compare_exchange_strong(other, reason)) {
      if (g_note) g_note(cat(kKernelOps[op].name, " uses its reference instead of its fused kernel where ", reason));
      return;
    }
    if (other == reason) return;
  }
}

template <class Path, class... Arguments>
bool takes_fused_path(std::size_t op, const at::Tensor& x, const Arguments&... arguments) {
  if (g_path == KernelPath::reference) return false;
  const bool exists = x.is_cuda() ? kKernelOps[op].cuda : x.is_cpu() && kKernelOps[op].cpu;
  const Support support = exists ? Path::supports(x, arguments...) : Support{"the device is not a CPU"};
  if (support) return true;
  if (g_path == KernelPath::automatic) {
    note_once(op, support.reason);
  } else if (exists) {
    throw ConfigError(cat("[run.kernels] fused: ", kKernelOps[op].name, " has no fused kernel where ", support.reason,
                          "; allowed here: auto, reference"));
  }
  return false;
}

// Runs the fused path of an op where the mode of the process and the arguments allow it, else its reference. The first
// argument is a tensor and tells the device.
template <class Path, class Reference, class... Arguments>
auto dispatch(std::size_t op, Reference reference, const Arguments&... arguments) {
  return takes_fused_path<Path>(op, arguments...) ? Path::run(arguments...) : reference(arguments...);
}

}  // namespace

void set_kernel_path(KernelPath path, KernelNote note) {
  g_path = path;
  g_note = std::move(note);
  for (auto& reasons : g_noted) {
    for (std::atomic<const char*>& reason : reasons) reason = nullptr;
  }
}

namespace ops {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return reference::linear(x, weight);
}

at::Tensor linear_input_gradient(const at::Tensor& grad, const at::Tensor& weight) {
  return reference::linear_input_gradient(grad, weight);
}

at::Tensor linear_weight_gradient(const at::Tensor& grad, const at::Tensor& x) {
  return reference::linear_weight_gradient(grad, x);
}

at::Tensor linear_per_head(const at::Tensor& x, const at::Tensor& weight) {
  return reference::linear_per_head(x, weight);
}

at::Tensor embed(const at::Tensor& ids, const at::Tensor& weight) {
  return reference::embed(ids, weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  NORMA_CHECK(x.size(-1) == weight.numel(), "[rms_norm] width of x ", x.size(-1), ", of the gain ", weight.numel());
  return dispatch<cpu::RmsNorm>(op("rms_norm"), reference::rms_norm, x, weight, eps);
}

at::Tensor rms_factor(const at::Tensor& x, double eps) {
  return reference::rms_factor(x, eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return reference::layer_norm(x, weight, eps);
}

at::Tensor residual_join(const at::Tensor& skip, const at::Tensor& y, double alpha, double beta) {
  return reference::residual_join(skip, y, alpha, beta);
}

at::Tensor rope(const at::Tensor& x, const RopeTable& table) {
  NORMA_CHECK(x.dim() == 4, "[rope] x ", x.sizes(), ", not [B, T, heads, E]");
  NORMA_CHECK(x.size(1) == table.cos.size(-3), "[rope] time of x ", x.size(1), ", of the table ", table.cos.size(-3));
  NORMA_CHECK(x.size(-1) == 2 * table.cos.size(-1), "[rope] width of x ", x.size(-1), ", of the table ",
              2 * table.cos.size(-1));
  return dispatch<cpu::Rope>(op("rope"), reference::rope, x, table);
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     const std::optional<at::Tensor>& mask, std::optional<double> scale) {
  const double factor = scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(-1))));
  return dispatch<cpu::Attention>(op("attention"), reference::attention, q, k, v, causal, mask, factor);
}

at::Tensor latent_attention(const at::Tensor& q, const at::Tensor& r, const LatentCacheView& cache, double scale,
                            const std::optional<at::Tensor>& mask) {
  return reference::latent_attention(q, r, cache, scale, mask);
}

at::Tensor swiglu(const at::Tensor& up_gate) {
  return dispatch<cpu::Swiglu>(op("swiglu"), reference::swiglu, up_gate);
}

CrossEntropy linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                                  double scale, double z_weight, std::int64_t chunk_tokens) {
  NORMA_CHECK(hidden.dim() == 2 && targets.numel() == hidden.size(0), "[linear_cross_entropy] hidden ", hidden.sizes(),
              ", targets ", targets.sizes());
  return reference::linear_cross_entropy(hidden, weight, targets, scale, z_weight, chunk_tokens);
}

Routing route(const at::Tensor& logits, const std::optional<at::Tensor>& bias, const RouterRule& rule) {
  NORMA_CHECK(logits.dim() == 2 && rule.top_k <= logits.size(1), "[route] logits ", logits.sizes(), ", top_k ",
              rule.top_k);
  NORMA_CHECK(!bias || bias->numel() == logits.size(1), "[route] logits ", logits.sizes(),
              ", the bias has another size");
  return dispatch<cpu::Route>(op("route"), reference::route, logits, bias, rule);
}

ExpertOrder order_by_expert(const at::Tensor& experts, const at::Tensor& counts) {
  RECORD_USER_SCOPE("experts: permutation");
  return dispatch<cpu::OrderByExpert>(op("order_by_expert"), reference::order_by_expert, experts, counts);
}

at::Tensor expert_mlp(const at::Tensor& x, const at::Tensor& up_gate, const at::Tensor& down, const at::Tensor& weights,
                      const ExpertOrder& order, bool keep_less, Products products) {
  NORMA_CHECK(x.dim() == 2 && weights.size(0) == x.size(0) && order.pairs.numel() == weights.numel(), "[expert_mlp] x ",
              x.sizes(), ", weights ", weights.sizes(), ", pairs ", order.pairs.sizes());
  NORMA_CHECK(up_gate.size(2) == x.size(1) && down.size(1) == x.size(1) && up_gate.size(1) == 2 * down.size(2) &&
                  up_gate.size(0) == down.size(0) && order.ends.numel() == down.size(0),
              "[expert_mlp] x ", x.sizes(), ", up_gate ", up_gate.sizes(), ", down ", down.sizes());
  return dispatch<GroupedExperts>(op("expert_mlp"), reference::expert_mlp, x, up_gate, down, weights, order, keep_less,
                                  products);
}

}  // namespace ops
}  // namespace norma
