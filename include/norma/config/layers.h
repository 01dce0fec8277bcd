// The keys of model.layers and norm.layers, which name layers: "all", "3" or "1-3", counted from 0.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "norma/base/error.h"

namespace norma {

struct LayerRange {
  std::string key;
  std::int64_t first = 0, last = 0;
  int rank = 0;  // 0: all, 1: a range, 2: a single layer. The more specific one is applied later.

  bool contains(std::int64_t layer) const { return layer >= first && layer <= last; }
};

// The ranges that `keys` name, in the order in which they apply. Keys that name no layer of the model and ranges that
// overlap are problems; their key is `section`.<key>.
std::vector<LayerRange> layer_ranges(const std::string& section, const std::vector<std::string>& keys,
                                     std::int64_t num_layers, Problems& problems);

template <class T>
std::vector<LayerRange> layer_ranges(const std::string& section, const std::map<std::string, T>& edits,
                                     std::int64_t num_layers, Problems& problems) {
  std::vector<std::string> keys;
  for (const auto& [key, edit] : edits) keys.push_back(key);
  return layer_ranges(section, keys, num_layers, problems);
}

}  // namespace norma
