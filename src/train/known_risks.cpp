// Known failures of placements, each with its source.
#include <algorithm>

#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/train/run_plan.h"

namespace norma {
namespace {

constexpr double kBillion = 1e9;

bool any_layer(const NormPlan& plan, bool (*holds)(const LayerPolicy&)) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), holds);
}

bool all_layers(const NormPlan& plan, bool (*holds)(const LayerPolicy&)) {
  return std::all_of(plan.layers.begin(), plan.layers.end(), holds);
}

// Whether the stream itself is normed, its skip included: as in Post-Norm, and after attention in HybridNorm.
bool norms_the_stream(const ResidualWiring& w) {
  return w.sum.present() || (w.in.present() && w.skip == SkipSource::normed);
}

bool is_hybrid(const LayerPolicy& layer) {
  return norms_the_stream(layer.mlp) && layer.mlp.skip == SkipSource::normed && !norms_the_stream(layer.attention);
}

bool is_post(const LayerPolicy& layer) {
  return norms_the_stream(layer.attention) && norms_the_stream(layer.mlp) && layer.mlp.skip != SkipSource::block;
}

bool is_deep(const LayerPolicy& layer) {
  return is_post(layer) && layer.attention.alpha > 1.0;
}

bool is_span(const LayerPolicy& layer) {
  return layer.mlp.sum.present() && layer.mlp.skip == SkipSource::block;
}

// Queries and keys normed, values and the branch's input not.
bool is_qk_post(const LayerPolicy& layer) {
  return is_hybrid(layer) && !layer.attention.in.present() && layer.inner.q.present() && layer.inner.k.present() &&
         !layer.inner.v.present() && !layer.inner.context.present();
}

double warmup_steps(const RunPlan& plan) {
  const ScheduleConfig& schedule = plan.config.schedule;
  const auto warmup = static_cast<double>(schedule.warmup);
  return schedule.units == ScheduleUnits::tokens ? warmup / static_cast<double>(plan.tokens_per_step) : warmup;
}

// The authors warmed up for 2,000 steps. A shorter run should warm up for a part of its length.
bool warms_up_shortly(const RunPlan& plan) {
  constexpr double kSteps = 2000.0, kPart = 0.025;
  return plan.max_steps > 0 && warmup_steps(plan) < std::min(kSteps, kPart * static_cast<double>(plan.max_steps));
}

}  // namespace

std::vector<std::string> known_risks(const RunPlan& plan) {
  const RunConfig& config = plan.config;
  const NormPlan& norms = plan.norms;
  const double lr = config.optim.lr, parameters = static_cast<double>(plan.cost.parameters);
  std::vector<std::string> risks;
  const auto warn = [&](bool applies, const std::string& text) {
    if (applies) risks.push_back(text);
  };
  const bool hybrid = any_layer(norms, is_hybrid);
  warn(any_layer(norms, is_qk_post),
       "norms on q and k alone with a normed MLP skip diverge (QK-Post, arXiv 2503.04598, Table 6): norm v as well");
  warn(hybrid && config.init.scheme != InitScheme::megatron,
       cat("the normed MLP skip was trained with init.scheme: megatron; others could not make it converge without ",
           "(HybridNorm, issue 2), here it is ", enum_name(config.init.scheme)));
  warn(hybrid && warms_up_shortly(plan),
       cat("the normed MLP skip was trained with 2,000 steps of warm-up and is sensitive to it (HybridNorm, issue 2); ",
           "here they are ", fixed(warmup_steps(plan), 0)));
  warn(hybrid && lr >= 1e-3 && parameters >= kBillion,
       "HybridNorm diverged at a learning rate of 1e-3 with 1.3B parameters (SiameseNorm, Table 1); its recipe has "
       "3e-4");
  warn(any_layer(norms, is_span) && lr >= 2e-3 && parameters >= kBillion,
       "SpanNorm diverged at a learning rate of 2e-3 with 1.3B parameters (SiameseNorm, Table 1)");
  const bool post = all_layers(norms, is_post), deep = all_layers(norms, is_deep);
  warn(post && !deep && norms.layers.size() >= 29,
       "Post-Norm diverged at 29 layers (arXiv 2503.04598, Table 7); mix, deep and hybrid did not");
  warn(post && !deep && lr >= 1e-3 && parameters >= 0.25 * kBillion,
       "Post-Norm failed at a learning rate of 1e-3 from 250M parameters on (Mix-LN, arXiv 2412.13795, Table 1)");
  warn(deep && config.init.scheme != InitScheme::xavier,
       cat("DeepNorm's bound on updates holds for its Xavier init (arXiv 2203.00555); here init.scheme is ",
           enum_name(config.init.scheme)));
  const MoeConfig& moe = config.model.moe;
  warn(!config.model.moe_layers().empty() && moe.top_k == 1 && (moe.normalize_weights || moe.num_experts == 1),
       "the weight of a token's only expert is always 1: the router learns from the balance loss alone");
  return risks;
}

}  // namespace norma
