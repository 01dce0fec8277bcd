// Names of our parameters without the block.
#pragma once

#include "norma/base/text.h"
#include "norma/model/parameters.h"

namespace norma {

// "attention.qkv" of "blocks.3.attention.qkv.weight", "head.norm" of "head.norm.weight".
inline std::string leaf_of(const ParameterSpec& p) {
  const std::string block = cat("blocks.", p.layer, "."), end = ".weight";
  std::string name = p.layer < 0 ? p.name : p.name.substr(block.size());
  return name.ends_with(end) ? name.substr(0, name.size() - end.size()) : name;
}

}  // namespace norma
