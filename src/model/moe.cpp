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

Moe::Moe(const ModelConfig& config, const LayerPolicy& policy)
    : SubLayer(policy.mlp, config.d_model),
      rule_(rule_of(config)),
      router_in_fp32_(config.moe.router_precision == RouterPrecision::fp32) {
  const std::int64_t experts = config.moe.num_experts, width = config.expert_width();
  if (config.moe.selection_bias) {
    selection_bias_ = register_parameter("selection_bias", shaped_placeholder({experts}));
  }
  router_ = register_matrix(*this, "router", {experts, config.d_model});
  const auto list = register_module("experts", std::make_shared<torch::nn::Module>("experts"));
  up_gate_ = register_matrix(*list, "up_gate", {experts, 2 * width, config.d_model});
  down_ = register_matrix(*list, "down", {experts, config.d_model, width});
  if (config.moe.shared_experts > 0) {
    const auto shared = register_module("shared", std::make_shared<torch::nn::Module>("shared"));
    shared_ = register_swiglu(*shared, config.d_model, config.shared_width());
  }
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
