#include "edits.h"

#include <algorithm>
#include <optional>

#include "norma/base/text.h"

namespace norma {
namespace {

// A range of layers as its key in norm.layers names it: "all", "3" or "1-3".
struct LayerRange {
  std::string key;
  std::int64_t first = 0, last = 0;
  int rank = 0;  // 0: all, 1: a range, 2: a single layer. The more specific one is applied later.
};

std::optional<LayerRange> parse_range(const std::string& key, std::int64_t num_layers) {
  if (key == "all") return LayerRange{key, 0, num_layers - 1, 0};
  if (key.find_first_not_of("0123456789-") != std::string::npos) return std::nullopt;
  const std::size_t dash = key.find('-');
  const auto first = parse_integer(key.substr(0, dash));
  const auto last = dash == std::string::npos ? first : parse_integer(key.substr(dash + 1));
  if (!first || !last || *first < 0 || *last < *first || *last >= num_layers) return std::nullopt;
  return LayerRange{key, *first, *last, dash == std::string::npos ? 2 : 1};
}

std::string layer_key(const std::string& key) {
  return cat("norm.layers.", key);
}

std::vector<LayerRange> sorted_ranges(const NormConfig& config, std::int64_t num_layers, Problems& problems) {
  std::vector<LayerRange> ranges;
  for (const auto& [key, edit] : config.layers) {
    if (auto range = parse_range(key, num_layers)) {
      ranges.push_back(*range);
    } else {
      problems.push_back({layer_key(key), 0,
                          cat("not a layer of this model; allowed: 'all', a layer from '0' to '", num_layers - 1,
                              "', or a range such as '1-3'")});
    }
  }
  std::stable_sort(ranges.begin(), ranges.end(), [](const LayerRange& a, const LayerRange& b) {
    return a.rank != b.rank ? a.rank < b.rank : a.first < b.first;
  });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    const LayerRange &a = ranges[i - 1], &b = ranges[i];
    if (a.rank == b.rank && b.first <= a.last) {
      problems.push_back({layer_key(b.key), 0,
                          cat("overlaps norm.layers.", a.key, "; which of the two wins would be a guess, so name ",
                              "every layer in one of them only")});
    }
  }
  return ranges;
}

// An added norm takes kind's eps from norm.eps and gain 1; editing a norm that is not there is a mistake.
template <class Edit>
void edit_site(const Edit& edit, const NormSite& norm, const std::string& key, NormSite& site, Problems& problems) {
  if (edit.kind) {
    const bool was_absent = !site.present();
    site.kind = *edit.kind;
    if (was_absent) {
      site.eps = norm.eps;
      site.gain_init = 1.0;
    }
  }
  if (!site.present() && (edit.eps || edit.gain_init)) {
    problems.push_back({key, 0, "there is no norm here to edit; add kind: rms (or layer)"});
  }
  if (edit.eps) site.eps = *edit.eps;
  if (edit.gain_init) site.gain_init = *edit.gain_init;
  if (edit.eps && !(site.eps >= 0.0 && site.eps < 1.0)) {
    problems.push_back({key + ".eps", 0, cat("must be at least 0 and below 1; got ", shortest(site.eps))});
  }
}

void edit_inner(const InnerSiteEdit& edit, const NormSite& norm, const std::string& key, InnerSite& site,
                Problems& problems) {
  edit_site(edit, norm, key, site, problems);
  if (edit.granularity && !site.present() && !edit.eps && !edit.gain_init) {
    problems.push_back({key, 0, "there is no norm here to edit; add kind: rms (or layer)"});
  }
  if (edit.granularity) site.granularity = *edit.granularity;
}

void edit_wiring(const WiringEdit& edit, const NormSite& norm, const std::string& key, ResidualWiring& wiring,
                 Problems& problems) {
  edit_site(edit.in, norm, key + ".in", wiring.in, problems);
  edit_site(edit.out, norm, key + ".out", wiring.out, problems);
  edit_site(edit.sum, norm, key + ".sum", wiring.sum, problems);
  wiring.skip = edit.skip.value_or(wiring.skip);
  wiring.in_gain = edit.in_gain.value_or(wiring.in_gain);
  wiring.alpha = edit.alpha.value_or(wiring.alpha);
  wiring.beta = edit.beta.value_or(wiring.beta);
  wiring.branch_init_scale = edit.branch_init_scale.value_or(wiring.branch_init_scale);
}

void edit_layer(const LayerEdit& edit, const NormSite& norm, const std::string& key, LayerPolicy& layer,
                Problems& problems) {
  edit_wiring(edit.attention, norm, key + ".attention", layer.attention, problems);
  edit_wiring(edit.mlp, norm, key + ".mlp", layer.mlp, problems);
  edit_inner(edit.inner.q, norm, key + ".inner.q", layer.inner.q, problems);
  edit_inner(edit.inner.k, norm, key + ".inner.k", layer.inner.k, problems);
  edit_inner(edit.inner.v, norm, key + ".inner.v", layer.inner.v, problems);
  edit_inner(edit.inner.context, norm, key + ".inner.context", layer.inner.context, problems);
}

}  // namespace

void apply_edits(const NormConfig& config, const NormSite& norm, NormPlan& plan, Problems& problems) {
  edit_site(config.embedding, norm, "norm.embedding", plan.embedding, problems);
  edit_site(config.final, norm, "norm.final", plan.final, problems);
  for (const LayerRange& range : sorted_ranges(config, static_cast<std::int64_t>(plan.layers.size()), problems)) {
    const LayerEdit& edit = config.layers.at(range.key);
    const std::string key = layer_key(range.key);
    if (edit.attention.skip == SkipSource::block) {
      problems.push_back({key + ".attention.skip", 0,
                          "block is for the MLP: attention's block input is the stream; allowed: stream, normed"});
    }
    for (std::int64_t l = range.first; l <= range.last; ++l) {
      Problems of_layer;
      edit_layer(edit, norm, key, plan.layers[static_cast<std::size_t>(l)], of_layer);
      if (l == range.first) append(problems, of_layer);
    }
  }
}

}  // namespace norma
