#include "presets.h"

#include <cmath>
#include <utility>

namespace norma {
namespace {

// Wirings of one sub-layer, named by where its norm sits.

ResidualWiring at_input(const NormSite& norm) {  // x + F(N(x))
  return {.in = norm};
}

ResidualWiring at_input_and_skip(const NormSite& norm) {  // N(x) + F(N(x))
  return {.in = norm, .skip = SkipSource::normed};
}

ResidualWiring at_output(const NormSite& norm) {  // x + N(F(x))
  return {.out = norm};
}

ResidualWiring at_both_ends(const NormSite& norm) {  // x + N(F(N(x)))
  return {.in = norm, .out = norm};
}

ResidualWiring at_sum(const NormSite& norm) {  // N(x + F(x))
  return {.sum = norm};
}

// Norms inside attention, by the letters of "qkvc".
InnerNorms inner_norms(const std::string& letters, const NormSite& norm, Granularity granularity) {
  const auto site = [&](char letter) {
    return letters.find(letter) == std::string::npos ? InnerSite{} : InnerSite{norm, granularity};
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

// HybridNorm's official code: every norm moved to the input of the next sub-layer, the first one on the
// embedding.
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

// HybridNorm, arXiv 2503.04598 eq. 6: QKV-norm attention on the raw stream; the MLP's norm also starts its
// skip.
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

// Mix-LN, arXiv 2412.13795: textbook Post-Norm below, Pre-Norm above.
NormPlan mix(const PresetOptions& o) {
  NormPlan plan = pre(o);
  for (std::int64_t l = 0; l < o.post_layers; ++l) {
    plan.layers[static_cast<std::size_t>(l)] = {at_sum(o.norm), at_sum(o.norm), {}};
  }
  return plan;
}

// Mix-LN with the official HybridNorm knobs: the Post-Norm layers in shifted form; the norm that would follow
// the last of them is the attention input norm, and skip, of the next layer.
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

// DeepNorm, arXiv 2203.00555, decoder only: alpha = (2L)^(1/4), initial weights of the value path times
// (8L)^(-1/4).
NormPlan deep(const PresetOptions& o) {
  const double depth = static_cast<double>(o.num_layers);
  ResidualWiring wiring = at_sum(o.norm);
  wiring.alpha = std::pow(2.0 * depth, 0.25);
  wiring.branch_init_scale = std::pow(8.0 * depth, -0.25);
  return uniform(o, {wiring, wiring, {}}, {});
}

// SpanNorm, arXiv 2601.22580: the MLP's skip spans the whole block; block 0 reads a normed embedding.
NormPlan span(const PresetOptions& o) {
  const double scale = std::sqrt(2.0 * static_cast<double>(o.num_layers));
  ResidualWiring attention = at_sum(o.norm);
  if (o.span_scaling == SpanScaling::branch) attention.beta = 1.0 / scale;
  if (o.span_scaling == SpanScaling::skip) attention.alpha = scale;
  ResidualWiring mlp = attention;
  mlp.skip = SkipSource::block;
  NormPlan plan = uniform(o, {attention, mlp, {}}, {});
  if (!plan.layers.empty()) plan.layers[0].attention.in = o.norm;
  if (o.span_scaling != SpanScaling::none) {
    plan.notes.push_back(
        "span: the scaling with depth is derived here from bounded signal propagation; it is not the paper's "
        "formula");
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

const std::vector<std::pair<std::string, Preset>>& presets() {
  static const std::vector<std::pair<std::string, Preset>> all = {
      {"pre", pre},
      {"post", post},
      {"post_shifted", post_shifted},
      {"qk", qk},
      {"qkv", qkv},
      {"hybrid", hybrid},
      {"hybrid_star", hybrid_star},
      {"mix", mix},
      {"mix_shifted", mix_shifted},
      {"deep", deep},
      {"span", span},
      {"olmo2", olmo2},
      {"olmoe", olmoe},
      {"sandwich", sandwich},
      {"peri", peri},
      {"lns", lns},
  };
  return all;
}

const std::vector<std::string>& inner_words() {
  static const std::vector<std::string> words = {"qk", "kv", "kc", "qkv", "qkc", "qkvc"};
  return words;
}

// The attention side of the ablation grammar: word -> (wiring, letters of the inner norms).
struct AttentionWord {
  std::string word;
  bool input_norm = false;
  bool skip_normed = false;
  std::string letters;
};

std::vector<AttentionWord> attention_words() {
  std::vector<AttentionWord> words = {{"pre", true, false, ""}, {"post", true, true, ""}};
  for (const std::string& inner : inner_words()) words.push_back({inner, false, false, inner});
  for (const std::string& inner : inner_words()) words.push_back({"pre_" + inner, true, false, inner});
  return words;
}

}  // namespace

Preset find_preset(const std::string& name) {
  for (const auto& [known, preset] : presets()) {
    if (known == name) return preset;
  }
  return nullptr;
}

std::vector<std::string> whole_preset_names() {
  std::vector<std::string> names;
  for (const auto& entry : presets()) names.push_back(entry.first);
  return names;
}

std::optional<NormPlan> ablation_plan(const std::string& name, const PresetOptions& o) {
  for (const AttentionWord& attention : attention_words()) {
    for (const char* ffn : {"", "_pre", "_post"}) {
      if (attention.word + ffn != name) continue;
      LayerPolicy layer;
      if (attention.input_norm) layer.attention.in = o.norm;
      if (attention.skip_normed) layer.attention.skip = SkipSource::normed;
      layer.mlp = ffn == std::string("_post") ? at_input_and_skip(o.norm) : at_input(o.norm);
      layer.inner = inner_norms(attention.letters, o.norm, Granularity::per_head);
      return uniform(o, layer, o.norm);
    }
  }
  return std::nullopt;
}

std::vector<std::string> ablation_names() {
  std::vector<std::string> names;
  for (const AttentionWord& attention : attention_words()) {
    for (const char* ffn : {"", "_pre", "_post"}) names.push_back(attention.word + ffn);
  }
  return names;
}

}  // namespace norma
