#include "presets.h"

#include <algorithm>
#include <cmath>

#include "norma/base/text.h"

namespace norma {
namespace {

// Wirings of one sub-layer, named by where its norm sits.

ResidualWiring at_input(const NormSite& norm) {  // x + F(N(x))
  return {{.in = norm}};
}

ResidualWiring at_input_and_skip(const NormSite& norm) {  // N(x) + F(N(x))
  return {{.in = norm}, SkipSource::normed};
}

ResidualWiring at_output(const NormSite& norm) {  // x + N(F(x))
  return {{.out = norm}};
}

ResidualWiring at_both_ends(const NormSite& norm) {  // x + N(F(N(x)))
  return {{.in = norm, .out = norm}};
}

ResidualWiring at_sum(const NormSite& norm) {  // N(x + F(x))
  return {{.sum = norm}};
}

// Norms inside attention, named by the letters of "qkvc".
InnerNorms inner_norms(const std::string& letters, const NormSite& norm, Granularity granularity) {
  const auto site = [&](char letter) {
    return letters.find(letter) == std::string::npos ? HeadSite{} : HeadSite{norm, granularity};
  };
  return {.q = site('q'), .k = site('k'), .v = site('v'), .context = site('c')};
}

NormPlan uniform(const PresetOptions& options, const LayerPolicy& layer, const NormSite& final) {
  NormPlan plan;
  plan.layers.assign(static_cast<std::size_t>(options.num_layers), layer);
  plan.final = final;
  return plan;
}

NormPlan pre(const PresetOptions& o) {
  return uniform(o, {at_input(o.norm), at_input(o.norm), {}}, o.norm);
}

// Textbook Post-Norm: the last norm of the last block already is the final norm.
NormPlan post(const PresetOptions& o) {
  return uniform(o, {at_sum(o.norm), at_sum(o.norm), {}}, {});
}

// Post-Norm as in HybridNorm's official code: every norm is moved to the input of the next sub-layer, and so the
// embedding is normed too.
NormPlan post_shifted(const PresetOptions& o) {
  return uniform(o, {at_input_and_skip(o.norm), at_input_and_skip(o.norm), {}}, o.norm);
}

// QK-Norm on Pre-Norm, per head as in the HybridNorm paper (eq. 43).
NormPlan qk(const PresetOptions& o) {
  return uniform(o, {at_input(o.norm), at_input(o.norm), inner_norms("qk", o.norm, Granularity::per_head)}, o.norm);
}

NormPlan qkv(const PresetOptions& o) {
  return uniform(o, {ResidualWiring{}, at_input(o.norm), inner_norms("qkv", o.norm, Granularity::per_head)}, o.norm);
}

// HybridNorm, arXiv 2503.04598 eq. 6: attention with QKV-norm reads the raw stream; the MLP's skip starts after its
// norm.
NormPlan hybrid(const PresetOptions& o) {
  return uniform(o, {ResidualWiring{}, at_input_and_skip(o.norm), inner_norms("qkv", o.norm, Granularity::per_head)},
                 o.norm);
}

// HybridNorm*, eq. 7: layer 0 is Pre-Norm on both sides and keeps the QKV norms.
NormPlan hybrid_star(const PresetOptions& o) {
  NormPlan plan = hybrid(o);
  if (plan.layers.empty()) return plan;
  plan.layers[0].attention = at_input(o.norm);
  plan.layers[0].mlp = at_input(o.norm);
  return plan;
}

// Mix-LN, arXiv 2412.13795: textbook Post-Norm in the first layers, Pre-Norm in the others.
NormPlan mix(const PresetOptions& o) {
  NormPlan plan = pre(o);
  for (std::int64_t l = 0; l < o.post_layers; ++l) {
    plan.layers[static_cast<std::size_t>(l)] = {at_sum(o.norm), at_sum(o.norm), {}};
  }
  return plan;
}

// Mix-LN as HybridNorm's official code can express it: the Post-Norm layers in shifted form. The norm that would follow
// the last of them is on the input of the next layer's attention, and that attention's skip starts after it.
NormPlan mix_shifted(const PresetOptions& o) {
  NormPlan plan = pre(o);
  for (std::int64_t l = 0; l < o.post_layers; ++l) {
    plan.layers[static_cast<std::size_t>(l)] = {at_input_and_skip(o.norm), at_input_and_skip(o.norm), {}};
  }
  if (o.post_layers > 0 && o.post_layers < o.num_layers) {
    plan.layers[static_cast<std::size_t>(o.post_layers)].attention = at_input_and_skip(o.norm);
  }
  return plan;
}

// DeepNorm, arXiv 2203.00555, for a decoder: alpha = (2L)^(1/4), and the initial weights of the value path are
// multiplied by (8L)^(-1/4).
NormPlan deep(const PresetOptions& o) {
  const double depth = static_cast<double>(o.num_layers);
  ResidualWiring wiring = at_sum(o.norm);
  wiring.alpha = std::pow(2.0 * depth, 0.25);
  wiring.branch_init_scale = std::pow(8.0 * depth, -0.25);
  return uniform(o, {wiring, wiring, {}}, {});
}

// SpanNorm, arXiv 2601.22580: the MLP's skip spans the whole block; attention of block 0 reads a normed embedding. The
// scaling with depth is derived here, not taken from the paper: the variance of the branches' sum stays bounded.
NormPlan span(const PresetOptions& o) {
  const double scale = std::sqrt(2.0 * static_cast<double>(o.num_layers));
  ResidualWiring attention = at_sum(o.norm);
  if (o.span_scaling == SpanScaling::branch) attention.beta = 1.0 / scale;
  if (o.span_scaling == SpanScaling::skip) attention.alpha = scale;
  ResidualWiring mlp = attention;
  mlp.skip = SkipSource::block;
  NormPlan plan = uniform(o, {attention, mlp, {}}, {});
  if (!plan.layers.empty()) plan.layers[0].attention.in = o.norm;
  if (o.span_scaling == SpanScaling::init) {
    plan.init_need = {InitScheme::megatron,
                      "norm.preset: span scales its branches with depth through the initial weights, unless "
                      "norm.span.scaling is branch, skip or none"};
  }
  if (o.span_scaling != SpanScaling::none) {
    plan.notes.push_back("span: the scaling with depth is derived here, not taken from the paper");
  }
  return plan;
}

// OLMo 2, arXiv 2501.00656: norms on the branches' outputs, whole-projection QK-norm.
NormPlan olmo2(const PresetOptions& o) {
  return uniform(o, {at_output(o.norm), at_output(o.norm), inner_norms("qk", o.norm, Granularity::whole)}, o.norm);
}

// OLMoE, arXiv 2409.02060: Pre-Norm with whole-projection QK-norm.
NormPlan olmoe(const PresetOptions& o) {
  return uniform(o, {at_input(o.norm), at_input(o.norm), inner_norms("qk", o.norm, Granularity::whole)}, o.norm);
}

// Sandwich-LN, CogView, arXiv 2105.13290.
NormPlan sandwich(const PresetOptions& o) {
  return uniform(o, {at_both_ends(o.norm), at_both_ends(o.norm), {}}, o.norm);
}

// Peri-LN, arXiv 2502.02732: Sandwich-LN and a norm on the embedding.
NormPlan peri(const PresetOptions& o) {
  NormPlan plan = sandwich(o);
  plan.embedding = o.norm;
  return plan;
}

// LayerNorm Scaling, arXiv 2502.05795: Pre-Norm, every norm's output times 1/sqrt(l + 1).
NormPlan lns(const PresetOptions& o) {
  NormPlan plan = pre(o);
  for (std::size_t l = 0; l < plan.layers.size(); ++l) {
    const double gain = 1.0 / std::sqrt(static_cast<double>(l + 1));
    plan.layers[l].attention.in_gain = gain;
    plan.layers[l].mlp.in_gain = gain;
  }
  return plan;
}

// The ablation grammar. Its word `post` means a norm on the input from which the skip starts too; INNER stands for
// norms inside attention.

struct AttentionWord {
  std::string word;
  bool input_norm = false;
  bool skip_normed = false;
  std::string inner;  // letters of the inner norms
  bool norms_whole_keys = false;
};

std::vector<AttentionWord> attention_words() {
  const std::vector<std::string> inner_words = {"qk", "kv", "kc", "qkv", "qkc", "qkvc"};
  std::vector<AttentionWord> words = {{"pre", true, false, ""}, {"post", true, true, ""}};
  for (const std::string& inner : inner_words) words.push_back({inner, false, false, inner});
  for (const std::string& inner : inner_words) {
    words.push_back({"pre_" + inner, true, false, inner, /*norms_whole_keys=*/inner == "qk"});
  }
  return words;
}

Preset ablation(const AttentionWord& attention, const std::string& ffn) {
  const auto make = [attention, ffn](const PresetOptions& o) {
    LayerPolicy layer;
    if (attention.input_norm) layer.attention.in = o.norm;
    if (attention.skip_normed) layer.attention.skip = SkipSource::normed;
    layer.mlp = ffn == "_post" ? at_input_and_skip(o.norm) : at_input(o.norm);
    layer.inner = inner_norms(attention.inner, o.norm, Granularity::per_head);
    return uniform(o, layer, o.norm);
  };
  return {.name = attention.word + ffn, .make = make, .norms_whole_keys = attention.norms_whole_keys};
}

const Preset* find(const std::vector<Preset>& presets, const std::string& name) {
  const auto found = std::ranges::find(presets, name, &Preset::name);
  return found == presets.end() ? nullptr : &*found;
}

}  // namespace

const std::vector<Preset>& named_presets() {
  static const std::vector<Preset> kPresets = {
      {.name = "pre", .make = pre},
      {.name = "post", .make = post},
      {.name = "post_shifted", .make = post_shifted},
      {.name = "qk", .make = qk, .norms_whole_keys = true},
      {.name = "qkv", .make = qkv},
      {.name = "hybrid", .make = hybrid},
      {.name = "hybrid_star", .make = hybrid_star},
      {.name = "mix", .make = mix, .reads_post_layers = true},
      {.name = "mix_shifted", .make = mix_shifted, .reads_post_layers = true},
      {.name = "deep", .make = deep},
      {.name = "span", .make = span, .reads_span_scaling = true},
      {.name = "olmo2", .make = olmo2},
      {.name = "olmoe", .make = olmoe},
      {.name = "sandwich", .make = sandwich},
      {.name = "peri", .make = peri},
      {.name = "lns", .make = lns},
  };
  return kPresets;
}

const std::vector<Preset>& all_presets() {
  static const std::vector<Preset> kPresets = [] {
    std::vector<Preset> presets = named_presets();
    for (const AttentionWord& attention : attention_words()) {
      for (const char* ffn : {"", "_pre", "_post"}) {
        Preset preset = ablation(attention, ffn);
        if (find(presets, preset.name) == nullptr) presets.push_back(std::move(preset));
      }
    }
    return presets;
  }();
  return kPresets;
}

const Preset* find_preset(const std::string& name) {
  return find(all_presets(), name);
}

}  // namespace norma
