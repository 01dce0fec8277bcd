// Counter-based random numbers: every value is a pure function of (key, counter), so that any element of any tensor can
// be drawn alone, in any order and on any thread. They are always drawn on the CPU.
//
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace norma {

// Four 32-bit words for a 128-bit counter under a 64-bit key.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// The key of the stream of numbers that belongs to a name under a seed: XXH3-64 of the name, seeded.
std::uint64_t stream_key(std::uint64_t seed, std::string_view name);

// Element `index` of the stream as a double in (0, 1): an odd multiple of 2^-53, never 0 or 1.
double uniform(std::uint64_t key, std::uint64_t index);

// Quantile function of the standard normal distribution, double precision, 0 < p < 1.
double normal_quantile(double p);

// Element `index` of a stream of N(0, std^2) truncated to [-cutoff * std, cutoff * std], by inverse CDF. It is not
// truncated when cutoff <= 0.
double truncated_normal(std::uint64_t key, std::uint64_t index, double std, double cutoff);

}  // namespace norma
