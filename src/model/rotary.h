// The numbers of a model's rotary embedding: which frequencies turn, and how softmax is scaled. Plain arithmetic in
// double.
//
// YaRN, arXiv 2309.00071 (frequencies by how often a pair turns within the first training's contexts), with the factors
// of DeepSeek-V2, arXiv 2405.04434, and of its code: with m(x) = 0.1 x ln(factor) + 1,
//   cosines and sines times m(mscale) / m(mscale_all_dim) when both are given and not zero, else m(1);
//   softmax scale times m(mscale_all_dim)^2 when that is given and not zero.
#pragma once

#include <vector>

#include "norma/config/config.h"

namespace norma {

struct Rotary {
  std::vector<double> frequencies;  // by pair, radians per position
  double table_factor = 1.0;        // on cosines and sines
  double softmax_scale = 1.0;       // of q k^T
};

Rotary rotary_of(const ModelConfig& model);

}  // namespace norma
