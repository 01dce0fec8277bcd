#include "moe.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

namespace norma {
namespace {

RouterRule rule_of(const ModelConfig& config) {
  const MoeConfig& moe = config.moe;
  RouterRule rule;
  rule.top_k = moe.top_k;
  rule.sigmoid = moe.scoring == RouterScoring::sigmoid;
  rule.normalize = moe.normalize_weights;
  rule.scale = moe.routed_scale;
  rule.groups = moe.groups;
  rule.top_groups = config.moe_top_groups();
  rule.group_of_two = moe.group_score == GroupScore::top2;
  return rule;
}

}  // namespace

Moe::Moe(const BlockParts& parts)
    : SubLayer(parts.policy.mlp, parts.norms.mlp),
      rule_(rule_of(parts.config)),
      router_in_fp32_(parts.config.moe.router_precision == RouterPrecision::fp32),
      selection_bias_(parts.tensors.take_if_any(ParameterRole::selection_bias)),
      router_(parts.tensors.take(ParameterRole::router)),
      up_gate_(parts.tensors.take(ParameterRole::experts_up_gate)),
      down_(parts.tensors.take(ParameterRole::experts_down)) {
  if (parts.config.moe.shared_experts > 0) shared_ = take_swiglu(parts.tensors);
}

at::Tensor Moe::router_logits(BranchInput& u) const {
  if (!router_in_fp32_) return u.project(router_);
  const at::ScalarType wide = accumulate_type(router_.scalar_type());
  return ops::linear(u.value().to(wide), router_.to(wide));
}

// Choice and losses: [B, T, D] -> of N tokens.
Routing Moe::choose(BranchInput& u) const {
  RECORD_USER_SCOPE("experts: router and losses");
  return ops::route(router_logits(u).flatten(0, 1), selection_bias_, rule_);  // of [N, E]
}

at::Tensor Moe::branch(BranchInput& u, const BlockContext& context) {
  const Routing routing = choose(u);
  const at::Tensor x = u.value();  // [B, T, D]
  RECORD_USER_SCOPE("experts: order and products");
  const ExpertOrder order = ops::order_by_expert(routing.experts, routing.counts);
  at::Tensor y = ops::expert_mlp(x.flatten(0, 1), up_gate_, down_, routing.weights, order, context.recompute_inputs);
  if (context.routing != nullptr) {
    *context.routing =
        RoutingTerms{.balance = routing.balance, .z = routing.z, .counts = routing.counts, .entropy = routing.entropy};
  }
  y = y.view(x.sizes());  // [N, D] -> [B, T, D]
  return shared_ ? y + shared_->forward(u, context) : y;
}

}  // namespace norma
