// Sixteen floats at a time, for the loops that run on a CPU; a bf16 value is the upper half of a float. Nothing here
// knows LibTorch. The names are private to each file that includes them.
#pragma once

#include <cstdint>
#include <cstring>

// Compiled for several instruction sets; the processor's own is chosen when the program is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define NORMA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define NORMA_CLONES
#endif
#define NORMA_INLINE inline __attribute__((always_inline))

namespace norma::cpu {
namespace {

constexpr int kLanes = 16;
using Floats = float __attribute__((vector_size(64), aligned(4)));
using Ints = std::int32_t __attribute__((vector_size(64), aligned(4)));

NORMA_INLINE void load(const float* from, Floats& to) {
  std::memcpy(&to, from, sizeof to);
}
NORMA_INLINE void store(const Floats& from, float* to) {
  std::memcpy(to, &from, sizeof from);
}

// e^x to about one unit in the last place, 0 below -87: 2^n e^r with |r| <= ln 2 / 2 and a polynomial (Cephes' expf).
NORMA_INLINE Floats exponential(Floats x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to a whole number
  constexpr float kLowest = -87.0F;
  const Floats zero = x * 0.0F;
  const Floats clamped = x > kLowest ? x : zero + kLowest;
  const Floats shifted = clamped * 1.44269504F + kRound;
  const Floats n = shifted - kRound;
  const Floats r = clamped - n * 0.693359375F - n * -2.12194440e-4F;
  Floats p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const Ints exponent = ((bits - 0x4B400000) + 127) << 23;  // 0x4B400000 is kRound
  Floats scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return x > kLowest ? p * scale : zero;
}

NORMA_INLINE float to_float(float x) {
  return x;
}
NORMA_INLINE float to_float(std::uint16_t x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
NORMA_INLINE void from_float(float x, float& to) {
  to = x;
}
// To the nearest, ties to even; a NaN stays one.
NORMA_INLINE void from_float(float x, std::uint16_t& to) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  to = static_cast<std::uint16_t>(x != x ? 0x7FC0U : rounded);
}

}  // namespace
}  // namespace norma::cpu
