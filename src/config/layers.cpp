#include "norma/config/layers.h"

#include <algorithm>
#include <optional>

#include "norma/base/text.h"
#include "norma/config/config.h"

namespace norma {
namespace {

std::optional<LayerRange> parse_range(const std::string& key, std::int64_t num_layers) {
  if (key == "all") return LayerRange{key, 0, num_layers - 1, 0};
  if (key.find_first_not_of("0123456789-") != std::string::npos) return std::nullopt;
  const std::size_t dash = key.find('-');
  const auto first = parse_integer(key.substr(0, dash));
  const auto last = dash == std::string::npos ? first : parse_integer(key.substr(dash + 1));
  if (!first || !last || *first < 0 || *last < *first || *last >= num_layers) return std::nullopt;
  return LayerRange{key, *first, *last, dash == std::string::npos ? 2 : 1};
}

}  // namespace

std::vector<LayerRange> layer_ranges(const std::string& section, const std::vector<std::string>& keys,
                                     std::int64_t num_layers, Problems& problems) {
  std::vector<LayerRange> ranges;
  for (const std::string& key : keys) {
    if (auto range = parse_range(key, num_layers)) {
      ranges.push_back(*range);
    } else {
      problems.push_back({cat(section, ".", key), 0,
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
      problems.push_back({cat(section, ".", b.key), 0,
                          cat("overlaps ", section, ".", a.key, "; which of the two wins would be a guess, so name ",
                              "every layer in one of them only")});
    }
  }
  return ranges;
}

MlpKind ModelConfig::mlp_kind(std::int64_t layer) const {
  MlpKind kind = mlp;
  Problems judged_elsewhere;
  for (const LayerRange& range : layer_ranges("model.layers", layers, num_layers, judged_elsewhere)) {
    if (range.contains(layer)) kind = layers.at(range.key).mlp.value_or(kind);
  }
  return kind;
}

std::vector<std::int64_t> ModelConfig::moe_layers() const {
  std::vector<std::int64_t> found;
  for (std::int64_t l = 0; l < num_layers; ++l) {
    if (mlp_kind(l) == MlpKind::moe) found.push_back(l);
  }
  return found;
}

}  // namespace norma
