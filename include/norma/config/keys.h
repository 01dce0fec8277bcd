// Dotted keys of a config: "train.freeze".
#pragma once

#include <string>

namespace norma {

// Whether `key` is `section` or lies inside of it: "model.moe.top_k" is inside of "model" and of "model.moe".
inline bool is_inside(const std::string& key, const std::string& section) {
  return key == section || key.starts_with(section + ".");
}

}  // namespace norma
