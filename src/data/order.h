// The order of training instances: numpy's Generator(PCG64(seed)).shuffle, number for number, because OLMo shuffles
// with it. A run that lists the same files with the same seed sees the same batches as OLMo.
//
// Sources: M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random
// Number Generation" (2014), PCG XSL RR 128/64; numpy's SeedSequence and masked rejection as documented by
// numpy.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace norma {

// numpy.random.PCG64(seed): the seed goes through SeedSequence.
class Pcg64 {
 public:
  explicit Pcg64(std::uint64_t seed);

  std::uint64_t next64();
  // The low half of a new next64(), then, in the next call, its high half.
  std::uint32_t next32();
  // Uniform in [0, max]: 32-bit draws, masked to the next 2^k - 1, repeated while they exceed max.
  std::uint32_t up_to(std::uint32_t max);

 private:
  __extension__ using Word128 = unsigned __int128;
  void step();

  Word128 state_ = 0;
  Word128 increment_ = 0;
  std::optional<std::uint32_t> kept_;
};

// 0 .. n-1 in the order of numpy.random.Generator(PCG64(seed)).shuffle(numpy.arange(n)).
std::vector<std::uint32_t> shuffled_indices(std::uint32_t n, std::uint64_t seed);

}  // namespace norma
