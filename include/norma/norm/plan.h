// A norm placement as plain data: which norms a model has, and where.
//
// A sub-layer is a branch F (attention or MLP) on the stream x. Every placement is a value of one equation:
//
//     u = g * N_in(x)      y = N_out(F(u))      s = alpha * skip + beta * y      x' = N_sum(s)
//     skip in { stream: x,  normed: u,  block: the input of the block }
//
// A site is where a norm may be. The model's constructor asks the plan which sites have one, and its forward executes
// the equation; parameter counts, initial weights, weight decay and names derive from the same value. Nothing else
// branches on a placement. All sites are listed in config.h, "Norm sites".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "norma/config/config.h"

namespace norma {

// The norm at one site. Without a norm the site is the identity and has no parameter.
struct NormSite {
  NormKind kind = NormKind::none;
  double eps = 1e-5;       // 0 is allowed
  double gain_init = 1.0;  // initial value of the gain; there is no bias

  bool present() const { return kind != NormKind::none; }
  bool operator==(const NormSite& other) const;  // all sites without a norm are equal
};

// The norm of a tensor that has heads: queries, keys, values or context.
struct HeadSite : NormSite {
  Granularity granularity = Granularity::per_head;  // per_head: over one head, with one gain for all heads

  bool operator==(const HeadSite& other) const;
};

struct ResidualWiring : WiringSites<NormSite> {
  SkipSource skip = SkipSource::stream;
  double in_gain = 1.0;            // g
  double alpha = 1.0;              // factor on the skip
  double beta = 1.0;               // factor on the branch
  double branch_init_scale = 1.0;  // factor on the initial std of the value path: v rows and W_O, or up, gate and down

  bool operator==(const ResidualWiring&) const = default;
};

// The norms inside attention. Only latent attention (DeepSeek-V2, arXiv 2405.04434) has the sites q_latent, kv_latent
// and rope_key.
using InnerNorms = InnerSites<NormSite, HeadSite>;

// A key of latent attention is [part without RoPE | part with RoPE, which all heads share]. rope_key norms the shared
// part, and then k norms the other one; where there is no rope_key, k norms the whole key of each head as one vector.
inline bool norms_whole_keys(const InnerNorms& inner) {
  return inner.k.present() && !inner.rope_key.present();
}

struct LayerPolicy {
  ResidualWiring attention, mlp;
  InnerNorms inner;
  bool operator==(const LayerPolicy&) const = default;
};

// What a placement needs of the initial weights.
struct InitNeed {
  InitScheme scheme;
  std::string reason;  // a sentence without its full stop
};

struct NormPlan {
  NormSite embedding;
  std::vector<LayerPolicy> layers;  // one per block
  NormSite final;
  DeepnormFfn scaled_ffn = DeepnormFfn::all;  // which MLP matrices branch_init_scale multiplies

  // Not part of ==: they do not change what a model with given weights computes.
  std::optional<InitNeed> init_need;
  std::vector<std::string> notes;  // for people, such as that a scaling is derived

  bool operator==(const NormPlan& other) const;
};

// ---- Visiting all sites ----

enum class SiteGroup { attention, mlp, inner };

// A site of a layer, by the group that keys put it in.
struct LayerSite : SiteInfo {
  SiteGroup group;

  std::string key() const;        // "attention.in", "inner.q": the key below norm.layers.<layer>
  std::string parameter() const;  // "attention.norm_in", "attention.norm_q": the name below blocks.<layer>
};

// Calls f(LayerSite, site of every one of `layers`) for each site in the order of the model. A layer is a LayerPolicy
// or a LayerEdit.
template <class F, class... L>
void visit_sites(F&& f, L&... layers) {
  const auto in_group = [&f](SiteGroup group) {
    return [&f, group](const SiteInfo& info, auto&... sites) { f(LayerSite{info, group}, sites...); };
  };
  visit_wiring_sites(in_group(SiteGroup::attention), layers.attention...);
  visit_inner_sites(in_group(SiteGroup::inner), layers.inner...);
  visit_wiring_sites(in_group(SiteGroup::mlp), layers.mlp...);
}

// What one token brings to a site: `heads` vectors of `width` elements. 0 elements: the model has no such tensor.
struct SiteShape {
  std::int64_t heads = 1, width = 0;

  std::int64_t elements() const { return heads * width; }
  std::int64_t gain_width(const NormSite&) const { return width; }
  std::int64_t gain_width(const HeadSite& site) const {
    return site.granularity == Granularity::per_head ? width : elements();
  }
};
SiteShape site_shape(SiteInput input, const InnerNorms& inner, const ModelConfig& model);

// A norm of the model with the name and width of its parameter.
struct NormParameter {
  std::string name;  // "blocks.3.attention.norm_in.weight"
  std::int64_t width = 0;
  NormSite site;
};

// All norms, in the order of the model.
std::vector<NormParameter> norm_parameters(const NormPlan& plan, const ModelConfig& model);

// ---- Plans and configs ----

// The plan of a config: the preset, then norm.embedding, norm.final and norm.layers on top. Of the model it reads the
// number of layers and the shape of attention. A plan with problems must not be used; each problem has its config key.
NormPlan make_norm_plan(const NormConfig& config, const ModelConfig& model, Problems& problems);

// Every preset name that make_norm_plan knows: the whole names first, then the ablation grammar.
std::vector<std::string> preset_names();

// A config that make_norm_plan turns into this plan again, for models that come with their plan as data: the nearest
// preset, and edits by layer where the plan differs from it. `model` is as for make_norm_plan. This works for every
// plan that make_norm_plan can return; for any other plan (attention with skip = block, say) the config has problems.
NormConfig norm_config_of(const NormPlan& plan, const ModelConfig& model);

// A table for people: one row per sub-layer, equal neighbouring layers in one row, notes below.
std::string to_table(const NormPlan& plan);

}  // namespace norma
