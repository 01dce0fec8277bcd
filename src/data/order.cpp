#include "order.h"

#include <array>
#include <bit>
#include <cstddef>
#include <numeric>
#include <utility>

namespace norma {

namespace {

constexpr std::size_t kPoolSize = 4;

// One running hash of numpy's SeedSequence: its constant changes with every word that goes through.
struct RunningHash {
  std::uint32_t constant;
  std::uint32_t multiplier;

  std::uint32_t operator()(std::uint32_t value) {
    value ^= constant;
    constant *= multiplier;
    value *= constant;
    return value ^ (value >> 16);
  }
};

std::uint32_t mix(std::uint32_t x, std::uint32_t y) {
  const std::uint32_t mixed = 0xca01f9ddU * x - 0x4973f715U * y;
  return mixed ^ (mixed >> 16);
}

// SeedSequence(seed).generate_state(4, uint64). A 64-bit seed has at most two words, so the pool takes all of
// it.
std::array<std::uint64_t, 4> seed_words(std::uint64_t seed) {
  const std::array<std::uint32_t, kPoolSize> entropy{static_cast<std::uint32_t>(seed),
                                                     static_cast<std::uint32_t>(seed >> 32), 0, 0};
  std::array<std::uint32_t, kPoolSize> pool{};
  RunningHash absorb{0x43b0d7e5U, 0x931e8875U};
  for (std::size_t i = 0; i < kPoolSize; ++i) pool[i] = absorb(entropy[i]);
  for (std::size_t source = 0; source < kPoolSize; ++source) {
    for (std::size_t target = 0; target < kPoolSize; ++target) {
      if (source != target) pool[target] = mix(pool[target], absorb(pool[source]));
    }
  }
  std::array<std::uint64_t, 4> words{};
  RunningHash emit{0x8b51f9ddU, 0x58f38dedU};
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint64_t value = emit(pool[i % kPoolSize]);
    words[i / 2] |= value << (i % 2 == 0 ? 0 : 32);
  }
  return words;
}

}  // namespace

Pcg64::Pcg64(std::uint64_t seed) {
  const std::array<std::uint64_t, 4> words = seed_words(seed);
  increment_ = (((static_cast<Word128>(words[2]) << 64) | words[3]) << 1) | 1;
  step();
  state_ += (static_cast<Word128>(words[0]) << 64) | words[1];
  step();
}

void Pcg64::step() {
  constexpr Word128 kMultiplier = (static_cast<Word128>(2549297995355413924ULL) << 64) | 4865540595714422341ULL;
  state_ = state_ * kMultiplier + increment_;
}

std::uint64_t Pcg64::next64() {
  step();
  const auto high = static_cast<std::uint64_t>(state_ >> 64);
  return std::rotr(high ^ static_cast<std::uint64_t>(state_), static_cast<int>(high >> 58));
}

std::uint32_t Pcg64::next32() {
  if (kept_) return *std::exchange(kept_, std::nullopt);
  const std::uint64_t both = next64();
  kept_ = static_cast<std::uint32_t>(both >> 32);
  return static_cast<std::uint32_t>(both);
}

std::uint32_t Pcg64::up_to(std::uint32_t max) {
  if (max == 0) return 0;
  const std::uint32_t mask = ~std::uint32_t{0} >> std::countl_zero(max);
  std::uint32_t value = next32() & mask;
  while (value > max) value = next32() & mask;
  return value;
}

std::vector<std::uint32_t> shuffled_indices(std::uint32_t n, std::uint64_t seed) {
  std::vector<std::uint32_t> indices(n);
  std::iota(indices.begin(), indices.end(), 0U);
  Pcg64 random(seed);
  for (std::uint32_t i = n; i-- > 1;) std::swap(indices[i], indices[random.up_to(i)]);
  return indices;
}

}  // namespace norma
