// Where the norms sit: the whole of it, as plain data.
//
// A sub-layer is a branch F (attention or MLP) on the stream x. Every placement is a value of one equation:
//
//     u = g * N_in(x)      y = N_out(F(u))      s = alpha * skip + beta * y      x' = N_sum(s)
//     skip in { stream: x,  normed: u,  block: the input of the block }
//
// The model's constructor asks the plan which sites exist and its forward executes the equation; parameter
// counts, initial weights, weight decay and names derive from the same value. Nothing else branches on a
// scheme.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "norma/config/config.h"

namespace norma {

// One place where a norm may sit. A site without a norm is the identity and owns no parameter.
struct NormSite {
  NormKind kind = NormKind::none;
  double eps = 1e-5;       // 0 is legal
  double gain_init = 1.0;  // initial value of the gain; there is no bias

  bool present() const { return kind != NormKind::none; }
  bool operator==(const NormSite& other) const;  // all absent sites are equal
};

// A norm inside attention: q and k before RoPE, v, and the context before the output projection.
struct InnerSite : NormSite {
  Granularity granularity = Granularity::per_head;  // per_head: over head_dim, one gain for all heads

  bool operator==(const InnerSite& other) const;
};

struct ResidualWiring {
  NormSite in{}, out{}, sum{};
  SkipSource skip = SkipSource::stream;
  double in_gain = 1.0;            // g
  double alpha = 1.0;              // factor on the skip
  double beta = 1.0;               // factor on the branch
  double branch_init_scale = 1.0;  // on the initial std of the value path: v rows and W_O, or up, gate and down

  bool operator==(const ResidualWiring&) const = default;
};

// Latent attention (DeepSeek-V2, arXiv 2405.04434) has three sites more, and every preset norms its two latents, as
// DeepSeek does: rms with eps 1e-6. A key of it is [k without RoPE; the key shared by all heads]. The shared one is
// normed at rope_key, then k norms the other part only; where rope_key is absent, k norms both as one vector per head.
// Presets that norm k put a norm on rope_key too, for without it attention depends on the length of its input; only
// the QK-Norm baseline, whose input is normed, norms keys whole.
struct InnerNorms {
  InnerSite q{}, k{}, v{}, context{};
  NormSite q_latent{}, kv_latent{}, rope_key{};
  bool operator==(const InnerNorms&) const = default;
};

struct LayerPolicy {
  ResidualWiring attention, mlp;
  InnerNorms inner;
  bool operator==(const LayerPolicy&) const = default;
};

struct NormPlan {
  NormSite embedding;
  std::vector<LayerPolicy> layers;  // one per block
  NormSite final;
  DeepnormFfn scaled_ffn = DeepnormFfn::all;  // which MLP matrices branch_init_scale multiplies
  std::vector<std::string> notes;             // for people, e.g. that a scaling is derived; not part of ==

  bool operator==(const NormPlan& other) const;
};

// The plan of a config: preset, then norm.embedding, norm.final and norm.layers on top. Of the model it reads the
// number of layers and attention's shape. Problems carry the config key; when there are any, the plan is not to be
// used.
NormPlan make_norm_plan(const NormConfig& config, const ModelConfig& model, Problems& problems);

// Every preset name that make_norm_plan knows, whole names first, then the ablation grammar.
std::vector<std::string> preset_names();

// A norm of the model as its parameter is named and sized.
struct NormParameter {
  std::string name;  // "blocks.3.attention.norm_in.weight"
  std::int64_t width = 0;
  NormSite site;
};

// All present sites, in the order of the model.
std::vector<NormParameter> norm_parameters(const NormPlan& plan, const ModelConfig& model);

// Widths of the gains inside attention; of absent sites, what they would be.
struct InnerWidths {
  std::int64_t q = 0, k = 0, v = 0, context = 0, q_latent = 0, kv_latent = 0, rope_key = 0;
};
InnerWidths inner_widths(const InnerNorms& inner, const ModelConfig& model);

// A table for people: one row per sub-layer, equal neighbouring layers together, notes below.
std::string to_table(const NormPlan& plan);

}  // namespace norma
