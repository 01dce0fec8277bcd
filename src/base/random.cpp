#include "norma/base/random.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <xxhash.h>

#include "norma/base/error.h"

namespace norma {

namespace {

// Coefficients of three rational approximations, lowest power first: M. J. Wichura, "Algorithm AS 241: the
// percentage points of the normal distribution", Applied Statistics 37 (1988), routine PPND16.
using Coefficients = std::array<double, 8>;

constexpr Coefficients kCentreTop = {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                                     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                                     3.3430575583588128105e4, 2.5090809287301226727e3};
constexpr Coefficients kCentreBottom = {1.0,
                                        4.2313330701600911252e1,
                                        6.8718700749205790830e2,
                                        5.3941960214247511077e3,
                                        2.1213794301586595867e4,
                                        3.9307895800092710610e4,
                                        2.8729085735721942674e4,
                                        5.2264952788528545610e3};
constexpr Coefficients kMiddleTop = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                     3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                     2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr Coefficients kMiddleBottom = {1.0,
                                        2.05319162663775882187e0,
                                        1.67638483018380384940e0,
                                        6.89767334985100004550e-1,
                                        1.48103976427480074590e-1,
                                        1.51986665636164571966e-2,
                                        5.47593808499534494600e-4,
                                        1.05075007164441684324e-9};
constexpr Coefficients kTailTop = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                   2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                   2.71155556874348757815e-5, 2.01033439929228813265e-7};
constexpr Coefficients kTailBottom = {1.0,
                                      5.99832206555887937690e-1,
                                      1.36929880922735805310e-1,
                                      1.48753612908506148525e-2,
                                      7.86869131145613259100e-4,
                                      1.84631831751005468180e-5,
                                      1.42151175831644588870e-7,
                                      2.04426310338993978564e-15};

double ratio(const Coefficients& top, const Coefficients& bottom, double x) {
  double above = top[7], below = bottom[7];
  for (std::size_t i = 7; i-- > 0;) {
    above = above * x + top[i];
    below = below * x + bottom[i];
  }
  return above / below;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t right = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(right >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(right),
               static_cast<std::uint32_t>(left >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(left)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

std::uint64_t stream_key(std::uint64_t seed, std::string_view name) {
  return XXH3_64bits_withSeed(name.data(), name.size(), seed);
}

double uniform(std::uint64_t key, std::uint64_t index) {
  const auto words = philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), 0, 0},
                                {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
  // An odd multiple of 2^-53. With one random bit more, adding the half would round to 1 at the upper end.
  const std::uint64_t bits = (std::uint64_t{words[0]} << 32 | words[1]) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

double normal_quantile(double p) {
  NORMA_CHECK(p > 0 && p < 1, "[random] a probability strictly between 0 and 1 is needed; got ", p);
  const double from_centre = p - 0.5;
  if (std::fabs(from_centre) <= 0.425) {
    return from_centre * ratio(kCentreTop, kCentreBottom, 0.180625 - from_centre * from_centre);
  }
  const double depth = std::sqrt(-std::log(from_centre < 0 ? p : 1 - p));
  const double size =
      depth <= 5 ? ratio(kMiddleTop, kMiddleBottom, depth - 1.6) : ratio(kTailTop, kTailBottom, depth - 5);
  return from_centre < 0 ? -size : size;
}

double truncated_normal(std::uint64_t key, std::uint64_t index, double std, double cutoff) {
  const double u = uniform(key, index);
  if (cutoff <= 0) return std * normal_quantile(u);
  const double below = 0.5 * std::erfc(cutoff * M_SQRT1_2);  // probability of falling under -cutoff
  const double p = below + u * (1 - 2 * below);
  return std * std::clamp(normal_quantile(p), -cutoff, cutoff);
}

}  // namespace norma
