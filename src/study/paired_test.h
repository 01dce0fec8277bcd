// The distributions behind paired comparisons, as plain functions of numbers.
#pragma once

#include <cstdint>

namespace norma {

// P(|T| >= t) of Student's t.
double student_two_sided(double t, double degrees);
// The t that |T| exceeds with probability 0.05.
double student_critical(double degrees);

// P(|Z| >= |z|) of the standard normal distribution, and the value that |Z| exceeds with probability 0.05.
double normal_two_sided(double z);
inline constexpr double kNormalCritical = 1.959963984540054;

// Two-sided exact p value of `a` against `b` when each of a + b is as likely to fall on either side (McNemar).
double sign_test(std::int64_t a, std::int64_t b);

}  // namespace norma
