// Checks model.moe and model.layers.
#include "norma/config/layers.h"
#include "norma/config/yaml.h"

#include "checker.h"

namespace norma {
namespace {

void check_groups(const ModelConfig& model, Checker& check) {
  const MoeConfig& moe = model.moe;
  if (!check.integer("model.moe.groups", moe.groups, 1, moe.num_experts)) return;
  if (!check.require(
          moe.num_experts % moe.groups == 0, "model.moe.groups",
          cat("must divide num_experts = ", moe.num_experts, ", because groups are equal; got ", moe.groups))) {
    return;
  }
  const std::int64_t in_group = moe.num_experts / moe.groups;
  if (moe.group_score == GroupScore::top2) {
    check.require(moe.groups > 1 && in_group >= 2, "model.moe.group_score",
                  cat("top2 adds a group's two best experts and needs groups of at least 2; got ", moe.groups,
                      moe.groups == 1 ? " group, of " : " groups of ", in_group));
  }
  if (!check.integer("model.moe.top_groups", moe.top_groups, 1, moe.groups)) return;
  check.require(model.moe_top_groups() * in_group >= moe.top_k, "model.moe.top_groups",
                cat("must hold top_k = ", moe.top_k, " experts; ", model.moe_top_groups(), " groups of ", in_group,
                    " hold ", model.moe_top_groups() * in_group));
}

// Whether any key differs from its default.
bool is_set(const MoeConfig& moe) {
  RunConfig given, otherwise;
  given.model.moe = moe;
  return !(given == otherwise);
}

}  // namespace

void check_moe(const ModelConfig& model, Checker& check) {
  constexpr std::int64_t kMostExperts = 65'536, kMostWidth = std::int64_t{1} << 24;
  const MoeConfig& moe = model.moe;
  if (model.num_layers >= 1) {
    Problems problems;
    layer_ranges("model.layers", model.layers, model.num_layers, problems);
    for (const Problem& problem : problems) check.require(false, problem.key, problem.text);
  }
  if (check.integer("model.moe.num_experts", moe.num_experts, 1, kMostExperts) &&
      check.integer("model.moe.top_k", moe.top_k, 1, moe.num_experts)) {
    check_groups(model, check);
  }
  if (check.integer("model.moe.expert_dim", moe.expert_dim, 1, kMostWidth) &&
      check.integer("model.moe.shared_experts", moe.shared_experts, 0, kMostExperts) && model.mlp_dim <= kMostWidth) {
    check.require(model.shared_width() <= kMostWidth, "model.moe.shared_experts",
                  cat("shared_experts * expert_dim must not pass ", with_commas(kMostWidth), "; got ",
                      with_commas(model.shared_width())));
  }
  check.require(!model.moe_layers().empty() || !is_set(moe), "model.moe",
                "is for layers with experts, and every layer is dense; set model.mlp: moe or model.layers");
  check.positive("model.moe.routed_scale", moe.routed_scale);
  check.number("model.moe.balance_loss", moe.balance_loss, 0.0);
  check.number("model.moe.z_loss", moe.z_loss, 0.0);
}

}  // namespace norma
