#include "cpu/row_loops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/vector.h"

namespace norma::cpu {
namespace {

using Halves = std::uint16_t __attribute__((vector_size(32), aligned(2)));
using Words = std::uint32_t __attribute__((vector_size(64), aligned(4)));

NORMA_INLINE void read(const float* from, Floats& to) {
  load(from, to);
}
NORMA_INLINE void read(const std::uint16_t* from, Floats& to) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  std::memcpy(&to, &words, sizeof to);
}
NORMA_INLINE void write(const Floats& from, float* to) {
  store(from, to);
}
// To the nearest, ties to even; a NaN stays one.
NORMA_INLINE void write(const Floats& from, std::uint16_t* to) {
  Words words;
  std::memcpy(&words, &from, sizeof words);
  const Words rounded = (words + 0x7FFFU + ((words >> 16) & 1U)) >> 16;
  const Words nan = rounded * 0U + 0x7FC0U;
  const Halves halves = __builtin_convertvector(from == from ? rounded : nan, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

// The first n elements, the rest zero.
template <class T>
NORMA_INLINE void fetch(const T* from, std::int64_t n, Floats& to) {
  if (n == kLanes) return read(from, to);
  T part[kLanes] = {};
  std::copy(from, from + n, part);
  read(part, to);
}
template <class T>
NORMA_INLINE void put(const Floats& from, std::int64_t n, T* to) {
  if (n == kLanes) return write(from, to);
  T part[kLanes];
  write(from, part);
  std::copy(part, part + n, to);
}

// 1 / (1 + e^-x), from e^-|x| so that nothing overflows.
NORMA_INLINE Floats sigmoid(const Floats& x) {
  const Floats shrunk = exponential(x > 0.0F ? -x : x);
  return (x > 0.0F ? shrunk * 0.0F + 1.0F : shrunk) / (shrunk + 1.0F);
}

NORMA_INLINE float total(const Floats& x) {
  float sum = 0.0F;
  for (int lane = 0; lane < kLanes; ++lane) sum += x[lane];
  return sum;
}

template <class T>
NORMA_INLINE void activate(const T* up_gate, std::int64_t rows, std::int64_t width, T* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const T *const up = up_gate + r * 2 * width, *const gate = up + width;
    for (std::int64_t f = 0; f < width; f += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, width - f);
      Floats u, g;
      fetch(up + f, n, u);
      fetch(gate + f, n, g);
      put(u * g * sigmoid(g), n, out + r * width + f);
    }
  }
}

template <class T>
NORMA_INLINE float mean_square(const T* x, std::int64_t width) {
  Floats sum = {};
  for (std::int64_t i = 0; i < width; i += kLanes) {
    Floats part;
    fetch(x + i, std::min<std::int64_t>(kLanes, width - i), part);
    sum += part * part;
  }
  return total(sum) / static_cast<float>(width);
}

template <class T>
NORMA_INLINE void normalize(const Rows& rows, const T* weight, double eps, std::int64_t begin, std::int64_t end, T* out,
                            float* scale) {
  const std::int64_t width = rows.width;
  for (std::int64_t r = begin; r < end; ++r) {
    const T* const x =
        static_cast<const T*>(rows.x) + (r / rows.inner) * rows.outer_stride + (r % rows.inner) * rows.inner_stride;
    const float below = std::max(mean_square(x, width) + static_cast<float>(eps), std::numeric_limits<float>::min());
    scale[r] = 1.0F / std::sqrt(below);
    for (std::int64_t i = 0; i < width; i += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, width - i);
      Floats value, gain;
      fetch(x + i, n, value);
      fetch(weight + i, n, gain);
      T normed[kLanes];
      write(value * scale[r], normed);  // the type's rounding comes before the gain
      read(normed, value);
      put(value * gain, n, out + r * width + i);
    }
  }
}

template <class T>
NORMA_INLINE void rotate(const Rows& rows, const float* cos, const float* sin, std::int64_t times, float sign,
                         std::int64_t begin, std::int64_t end, T* out) {
  const std::int64_t half = rows.width / 2;
  for (std::int64_t r = begin; r < end; ++r) {
    const std::int64_t outer = r / rows.inner, angles = (outer % times) * half;
    const T* const x = static_cast<const T*>(rows.x) + outer * rows.outer_stride + (r % rows.inner) * rows.inner_stride;
    T* const to = out + r * rows.width;
    for (std::int64_t i = 0; i < half; i += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, half - i);
      Floats a, b, c, s;
      fetch(x + i, n, a);
      fetch(x + half + i, n, b);
      fetch(cos + angles + i, n, c);
      fetch(sin + angles + i, n, s);
      s *= sign;
      put(a * c - b * s, n, to + i);
      put(b * c + a * s, n, to + half + i);
    }
  }
}

template <class T>
NORMA_INLINE void activation_backward(const ActivationRows& p, std::int64_t rows, std::int64_t width) {
  const auto* const grad = static_cast<const T*>(p.grad);
  auto *const grad_up_gate = static_cast<T*>(p.grad_up_gate), *const weighted = static_cast<T*>(p.weighted);
  for (std::int64_t r = 0; r < rows; ++r) {
    const T *const up = static_cast<const T*>(p.up_gate) + r * 2 * width, *const gate = up + width;
    T *const grad_up = grad_up_gate + r * 2 * width, *const grad_gate = grad_up + width;
    const float weight = p.weights[r];
    Floats of_weight = {};
    for (std::int64_t f = 0; f < width; f += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, width - f);
      Floats u, g, d;
      fetch(up + f, n, u);
      fetch(gate + f, n, g);
      fetch(grad + r * width + f, n, d);
      const Floats s = sigmoid(g), silu = g * s, activation = silu * u, slope = s * (1.0F + g - silu);
      of_weight += d * activation;
      d *= weight;
      put(d * silu, n, grad_up + f);
      put(d * u * slope, n, grad_gate + f);
      put(activation * weight, n, weighted + r * width + f);
    }
    p.grad_weights[r] = total(of_weight);
  }
}

template <class T>
NORMA_INLINE void sum_up(const T* rows, const std::int64_t* indices, const float* weights, std::int64_t tokens,
                         std::int64_t choices, std::int64_t width, T* out) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t d = 0; d < width; d += kLanes) {
      const std::int64_t n = std::min<std::int64_t>(kLanes, width - d);
      Floats sum = {};
      for (std::int64_t j = t * choices; j < (t + 1) * choices; ++j) {
        Floats x;
        fetch(rows + indices[j] * width + d, n, x);
        sum += weights == nullptr ? x : x * weights[j];
      }
      put(sum, n, out + t * width + d);
    }
  }
}

}  // namespace

NORMA_CLONES void activate_rows(Element element, const void* up_gate, std::int64_t rows, std::int64_t width,
                                void* out) {
  if (element == Element::float32) {
    activate(static_cast<const float*>(up_gate), rows, width, static_cast<float*>(out));
  } else {
    activate(static_cast<const std::uint16_t*>(up_gate), rows, width, static_cast<std::uint16_t*>(out));
  }
}

NORMA_CLONES void normalize_rows(Element element, const Rows& rows, const void* weight, double eps, std::int64_t begin,
                                 std::int64_t end, void* out, float* scale) {
  if (element == Element::float32) {
    normalize(rows, static_cast<const float*>(weight), eps, begin, end, static_cast<float*>(out), scale);
  } else {
    normalize(rows, static_cast<const std::uint16_t*>(weight), eps, begin, end, static_cast<std::uint16_t*>(out),
              scale);
  }
}

NORMA_CLONES void rotate_rows(Element element, const Rows& rows, const float* cos, const float* sin, std::int64_t times,
                              float sign, std::int64_t begin, std::int64_t end, void* out) {
  if (element == Element::float32) {
    rotate(rows, cos, sin, times, sign, begin, end, static_cast<float*>(out));
  } else {
    rotate(rows, cos, sin, times, sign, begin, end, static_cast<std::uint16_t*>(out));
  }
}

NORMA_CLONES void activation_backward_rows(Element element, const ActivationRows& pointers, std::int64_t rows,
                                           std::int64_t width) {
  if (element == Element::float32) {
    activation_backward<float>(pointers, rows, width);
  } else {
    activation_backward<std::uint16_t>(pointers, rows, width);
  }
}

NORMA_CLONES void sum_rows(Element element, const void* rows, const std::int64_t* indices, const float* weights,
                           std::int64_t tokens, std::int64_t choices, std::int64_t width, void* out) {
  if (element == Element::float32) {
    sum_up(static_cast<const float*>(rows), indices, weights, tokens, choices, width, static_cast<float*>(out));
  } else {
    sum_up(static_cast<const std::uint16_t*>(rows), indices, weights, tokens, choices, width,
           static_cast<std::uint16_t*>(out));
  }
}

}  // namespace norma::cpu
