// SHA-256 (FIPS 180-4), for fixtures that hold the hash of a long stream. The constants are computed by their
// definition: the fractions of the square and cube roots of the first primes.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

namespace norma::testing {

class Sha256 {
 public:
  Sha256() {
    int count = 0;
    for (int n = 2; count < 64; ++n) {
      bool prime = true;
      for (int divisor = 2; divisor * divisor <= n; ++divisor) prime = prime && n % divisor != 0;
      if (!prime) continue;
      if (count < 8) state_[count] = fraction(std::sqrt(static_cast<double>(n)));
      constants_[count++] = fraction(std::cbrt(static_cast<double>(n)));
    }
  }

  void update(std::string_view bytes) {
    for (char byte : bytes) add(static_cast<unsigned char>(byte));
  }

  // 64 lower-case hex digits. Ends the stream.
  std::string hex_digest() {
    const std::uint64_t bits = length_ * 8;
    add(0x80);
    while (length_ % 64 != 56) add(0);
    for (int shift = 56; shift >= 0; shift -= 8) add(static_cast<unsigned char>(bits >> shift));
    std::string text;
    for (std::uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(word >> shift) & 15];
    }
    return text;
  }

 private:
  static std::uint32_t fraction(double root) {
    return static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0);
  }

  void add(unsigned char byte) {
    block_[length_++ % 64] = byte;
    if (length_ % 64 == 0) compress();
  }

  void compress() {
    std::array<std::uint32_t, 64> w{};
    for (int i = 0; i < 64; ++i) w[i / 4] = (w[i / 4] << 8) | block_[i];
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t big1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t t1 = h + big1 + ((e & f) ^ (~e & g)) + constants_[i] + w[i];
      const std::uint32_t big0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t t2 = big0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    const std::array<std::uint32_t, 8> change{a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state_[i] += change[i];
  }

  std::array<std::uint32_t, 8> state_{};
  std::array<std::uint32_t, 64> constants_{};
  std::array<unsigned char, 64> block_{};
  std::uint64_t length_ = 0;
};

}  // namespace norma::testing
