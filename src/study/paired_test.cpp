#include "paired_test.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace norma {
namespace {

// The continued fraction of the incomplete beta function (DLMF 8.17.22), by the modified Lentz method. It converges
// within about sqrt(max(a, b)) terms when x < (a + 1) / (a + b + 2).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300, kAccuracy = 1e-15;
  constexpr int kMaxTerms = 100'000;
  const auto away_from_zero = [](double value) { return std::fabs(value) < kTiny ? kTiny : value; };
  double c = 1.0, d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)), value = d;
  for (int m = 1; m < kMaxTerms; ++m) {
    const double k = m;
    const double even = k * (b - k) * x / ((a + 2.0 * k - 1.0) * (a + 2.0 * k));
    const double odd = -(a + k) * (a + b + k) * x / ((a + 2.0 * k) * (a + 2.0 * k + 1.0));
    double step = 1.0;
    for (const double coefficient : {even, odd}) {
      d = 1.0 / away_from_zero(1.0 + coefficient * d);
      c = away_from_zero(1.0 + coefficient / c);
      step = c * d;
      value *= step;
    }
    if (std::fabs(step - 1.0) < kAccuracy) break;
  }
  return value;
}

// The regularized incomplete beta function I_x(a, b).
double incomplete_beta(double x, double a, double b) {
  if (x <= 0.0) return 0.0;
  if (x >= 1.0) return 1.0;
  const bool mirrored = x > (a + 1.0) / (a + b + 2.0);
  if (mirrored) {
    x = 1.0 - x;
    std::swap(a, b);
  }
  const double log_front = std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  const double value = std::exp(log_front) / a * beta_fraction(x, a, b);
  return mirrored ? 1.0 - value : value;
}

}  // namespace

double student_two_sided(double t, double degrees) {
  return incomplete_beta(degrees / (degrees + t * t), degrees / 2.0, 0.5);
}

double student_critical(double degrees) {
  double low = 1.9, high = 13.0;  // 1.96 for infinitely many degrees of freedom, 12.7 for one
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2.0;
    (student_two_sided(middle, degrees) > 0.05 ? low : high) = middle;
  }
  return low;
}

double normal_two_sided(double z) {
  return std::erfc(std::fabs(z) / std::sqrt(2.0));
}

double sign_test(std::int64_t a, std::int64_t b) {
  if (a == b) return 1.0;
  const auto fewer = static_cast<double>(std::min(a, b)), more = static_cast<double>(std::max(a, b));
  // Twice the probability of at most `fewer` among a + b fair coin tosses.
  return std::min(2.0 * incomplete_beta(0.5, more, fewer + 1.0), 1.0);
}

}  // namespace norma
