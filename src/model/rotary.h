// The numbers of a model's rotary embedding: the frequencies of its pairs, and the scale of the softmax. Plain
// arithmetic in double.
//
// YaRN, arXiv 2309.00071 (frequencies change with how often a pair turns within the contexts of the first training),
// with the factors of DeepSeek-V2, arXiv 2405.04434, and of its code: with m(x) = 0.1 x ln(factor) + 1,
//   cosines and sines are multiplied by m(mscale) / m(mscale_all_dim) if both are given and not zero, else by m(1);
//   the softmax scale is multiplied by m(mscale_all_dim)^2 if that is given and not zero.
#pragma once

#include <vector>

#include "norma/config/config.h"

namespace norma {

struct Rotary {
  std::vector<double> frequencies;  // by pair, radians per position
  double table_factor = 1.0;        // factor on cosines and sines
  double softmax_scale = 1.0;       // of q k^T
};

Rotary rotary_of(const ModelConfig& model);

}  // namespace norma
