#include "rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace norma {
namespace {

// The index, as a real number, of the pair that turns `turns` times within the original length.
double pair_of_turns(double turns, double width, const ModelConfig& model) {
  const double length = static_cast<double>(*model.rope.original_length);
  return width * std::log(length / (2.0 * std::numbers::pi * turns)) / (2.0 * std::log(model.rope_theta));
}

// By pair: 0 leaves its frequency alone, 1 divides it by the whole factor.
std::vector<double> yarn_ramp(std::int64_t width, const ModelConfig& model) {
  const double wide = static_cast<double>(width);
  const double low = std::max(std::floor(pair_of_turns(model.rope.beta_fast, wide, model)), 0.0);
  double high = std::min(std::ceil(pair_of_turns(model.rope.beta_slow, wide, model)), wide - 1.0);
  if (high == low) high += 0.001;
  std::vector<double> ramp;
  for (std::int64_t i = 0; i < width / 2; ++i) {
    ramp.push_back(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
  }
  return ramp;
}

double magnitude(double mscale, double factor) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace

Rotary rotary_of(const ModelConfig& model) {
  const std::int64_t width = model.rotary_width();
  const RopeConfig& rope = model.rope;
  Rotary rotary;
  rotary.softmax_scale = 1.0 / std::sqrt(static_cast<double>(model.head_width()));
  for (std::int64_t i = 0; i < width / 2; ++i) {
    rotary.frequencies.push_back(
        std::pow(model.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
  }
  if (rope.scaling == RopeScaling::none) return rotary;
  const double factor = *rope.factor, mscale = rope.mscale.value_or(0.0), all = rope.mscale_all_dim.value_or(0.0);
  const std::vector<double> ramp = yarn_ramp(width, model);
  for (std::size_t i = 0; i < ramp.size(); ++i) rotary.frequencies[i] *= (1.0 - ramp[i]) + ramp[i] / factor;
  const bool both = mscale != 0.0 && all != 0.0;
  rotary.table_factor = both ? magnitude(mscale, factor) / magnitude(all, factor) : magnitude(1.0, factor);
  if (rope.attention_factor) rotary.table_factor = *rope.attention_factor;
  if (all != 0.0) rotary.softmax_scale *= std::pow(magnitude(all, factor), 2);
  return rotary;
}

}  // namespace norma
