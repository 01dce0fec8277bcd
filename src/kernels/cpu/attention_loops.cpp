#include "cpu/attention_loops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/vector.h"

namespace norma::cpu {
namespace {

constexpr std::int64_t kBlock = 64;  // rows of queries and keys that are worked on at once

// A matrix read element by element: (row, column) at data[row * row_stride + column * column_stride].
struct Strided {
  const float* data;
  std::int64_t row_stride, column_stride;
};

// c [R, 16 V] += a [R, depth] b [depth, 16 V], in registers.
template <int R, int V>
NORMA_INLINE void multiply_tile(const Strided& a, const float* b, std::int64_t b_stride, std::int64_t depth, float* c,
                                std::int64_t c_stride) {
  Floats sums[R][V];
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < V; ++i) load(c + r * c_stride + i * kLanes, sums[r][i]);
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Floats row[V];
    for (int i = 0; i < V; ++i) load(b + k * b_stride + i * kLanes, row[i]);
    for (int r = 0; r < R; ++r) {
      const float factor = a.data[r * a.row_stride + k * a.column_stride];
      for (int i = 0; i < V; ++i) sums[r][i] += factor * row[i];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < V; ++i) store(sums[r][i], c + r * c_stride + i * kLanes);
  }
}

template <int R, int V>
NORMA_INLINE void multiply_columns(const Strided& a, const float* b, std::int64_t b_stride, std::int64_t depth,
                                   float* c, std::int64_t c_stride) {
  for (std::int64_t row = 0; row < kBlock; row += R) {
    const Strided rows = {a.data + row * a.row_stride, a.row_stride, a.column_stride};
    multiply_tile<R, V>(rows, b, b_stride, depth, c + row * c_stride, c_stride);
  }
}

// c [64, columns] += a [64, depth] b [depth, columns]; columns is a multiple of 16.
NORMA_INLINE void multiply(const Strided& a, const float* b, std::int64_t b_stride, std::int64_t depth, float* c,
                           std::int64_t c_stride, std::int64_t columns) {
  std::int64_t column = 0;
  for (; column + 4 * kLanes <= columns; column += 4 * kLanes) {
    multiply_columns<4, 4>(a, b + column, b_stride, depth, c + column, c_stride);
  }
  const std::int64_t rest = (columns - column) / kLanes;
  if (rest == 3) multiply_columns<4, 3>(a, b + column, b_stride, depth, c + column, c_stride);
  if (rest == 2) multiply_columns<8, 2>(a, b + column, b_stride, depth, c + column, c_stride);
  if (rest == 1) multiply_columns<8, 1>(a, b + column, b_stride, depth, c + column, c_stride);
}

// scores [64, 64] of a query block against a key block; keys after the query are out of reach.
NORMA_INLINE void score_block(const float* q, const float* keys_t, std::int64_t width, bool diagonal, float* scores) {
  std::fill(scores, scores + kBlock * kBlock, 0.0F);
  multiply({q, width, 1}, keys_t, kBlock, width, scores, kBlock, kBlock);
  if (!diagonal) return;
  for (std::int64_t i = 0; i < kBlock; ++i) {
    std::fill(scores + i * kBlock + i + 1, scores + (i + 1) * kBlock, -std::numeric_limits<float>::max());
  }
}

// One row of scores becomes weights e^(s - shift); returns their sum.
NORMA_INLINE float weigh_row(float* row, float shift) {
  Floats sum = {};
  for (std::int64_t j = 0; j < kBlock; j += kLanes) {
    Floats s;
    load(row + j, s);
    s = exponential(s - shift);
    sum += s;
    store(s, row + j);
  }
  float total = 0.0F;
  for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
  return total;
}

NORMA_INLINE float largest_of(const float* row) {
  Floats most;
  load(row, most);
  for (std::int64_t j = kLanes; j < kBlock; j += kLanes) {
    Floats s;
    load(row + j, s);
    most = most > s ? most : s;
  }
  float largest = most[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = most[lane] > largest ? most[lane] : largest;
  return largest;
}

// The running softmax of one row: its largest score and its denominator.
NORMA_INLINE void update_row(float* scores, float* out, std::int64_t width, float& largest, float& denominator) {
  const float seen = std::max(largest, largest_of(scores));
  const float shrink = std::exp(largest - seen);
  largest = seen;
  denominator = denominator * shrink + weigh_row(scores, seen);
  for (std::int64_t e = 0; e < width; ++e) out[e] *= shrink;
}

NORMA_CLONES void forward_block(std::int64_t width, std::int64_t block, const float* q, const float* keys_t,
                                const float* v, float* out, float* lse, float* scores) {
  float largest[kBlock], denominator[kBlock];
  std::fill(largest, largest + kBlock, -std::numeric_limits<float>::max());
  std::fill(denominator, denominator + kBlock, 0.0F);
  std::fill(out, out + kBlock * width, 0.0F);
  for (std::int64_t other = 0; other <= block; ++other) {
    score_block(q, keys_t + other * width * kBlock, width, other == block, scores);
    for (std::int64_t i = 0; i < kBlock; ++i) {
      update_row(scores + i * kBlock, out + i * width, width, largest[i], denominator[i]);
    }
    multiply({scores, kBlock, 1}, v + other * kBlock * width, width, kBlock, out, width, width);
  }
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const float scale = 1.0F / denominator[i];
    for (std::int64_t e = 0; e < width; ++e) out[i * width + e] *= scale;
    lse[i] = largest[i] + std::log(denominator[i]);
  }
}

// weights p = e^(s - lse) and grad_scores = p * (grad_p - delta), both [64, 64].
NORMA_INLINE void softmax_backward(float* weights, float* grad_scores, const float* lse, const float* delta) {
  for (std::int64_t i = 0; i < kBlock; ++i) {
    for (std::int64_t j = i * kBlock; j < (i + 1) * kBlock; j += kLanes) {
      Floats s, g;
      load(weights + j, s);
      load(grad_scores + j, g);
      const Floats p = exponential(s - lse[i]);
      store(p, weights + j);
      store(p * (g - delta[i]), grad_scores + j);
    }
  }
}

struct PairPointers {  // of a query block (q, grad_out, lse, delta, grad_q) and a key block (the rest)
  const float *q, *grad_out, *lse, *delta;
  const float *k, *keys_t, *values_t;
  float *grad_q, *grad_k, *grad_v;
};

NORMA_CLONES void backward_pair(std::int64_t width, bool diagonal, const PairPointers& p, float* weights,
                                float* grad_scores) {
  score_block(p.q, p.keys_t, width, diagonal, weights);
  std::fill(grad_scores, grad_scores + kBlock * kBlock, 0.0F);
  multiply({p.grad_out, width, 1}, p.values_t, kBlock, width, grad_scores, kBlock, kBlock);
  softmax_backward(weights, grad_scores, p.lse, p.delta);
  multiply({weights, 1, kBlock}, p.grad_out, width, kBlock, p.grad_v, width, width);  // p^T grad_out
  multiply({grad_scores, kBlock, 1}, p.k, width, kBlock, p.grad_q, width, width);
  multiply({grad_scores, 1, kBlock}, p.q, width, kBlock, p.grad_k, width, width);
}

// ---- Rows of a tensor to and from packed float32 ----

template <class T>
NORMA_INLINE void pack_rows(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t width, float scale,
                            float* to) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t e = 0; e < width; ++e) to[i * width + e] = to_float(from[i * stride + e]) * scale;
  }
}

template <class T>
NORMA_INLINE void unpack_rows(const float* from, std::int64_t rows, std::int64_t width, float scale, T* to,
                              std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t e = 0; e < width; ++e) from_float(from[i * width + e] * scale, to[i * stride + e]);
  }
}

// Head `head` of a tensor; rows up to whole blocks are zero.
NORMA_CLONES void pack(const GroupShape& shape, const Heads& heads, std::int64_t head, float scale, float* to) {
  const std::int64_t offset = head * heads.head_stride, width = shape.width;
  if (shape.element == Element::float32) {
    pack_rows(static_cast<const float*>(heads.data) + offset, heads.row_stride, shape.time, width, scale, to);
  } else {
    pack_rows(static_cast<const std::uint16_t*>(heads.data) + offset, heads.row_stride, shape.time, width, scale, to);
  }
  const std::int64_t padded = (shape.time + kBlock - 1) / kBlock * kBlock;
  std::fill(to + shape.time * width, to + padded * width, 0.0F);
}

NORMA_CLONES void unpack(const GroupShape& shape, const float* from, float scale, const Heads& heads,
                         std::int64_t head) {
  const std::int64_t offset = head * heads.head_stride, width = shape.width;
  if (shape.element == Element::float32) {
    unpack_rows(from, shape.time, width, scale, static_cast<float*>(heads.data) + offset, heads.row_stride);
  } else {
    unpack_rows(from, shape.time, width, scale, static_cast<std::uint16_t*>(heads.data) + offset, heads.row_stride);
  }
}

// Blocks [64, E] of `from` as [E, 64].
NORMA_CLONES void transpose_blocks(const float* from, std::int64_t blocks, std::int64_t width, float* to) {
  for (std::int64_t block = 0; block < blocks; ++block, from += kBlock * width, to += kBlock * width) {
    for (std::int64_t e = 0; e < width; ++e) {
      for (std::int64_t i = 0; i < kBlock; ++i) to[e * kBlock + i] = from[i * width + e];
    }
  }
}

// delta [rows] = row sums of a * b.
NORMA_CLONES void row_products(const float* a, const float* b, std::int64_t rows, std::int64_t width, float* delta) {
  for (std::int64_t i = 0; i < rows; ++i) {
    Floats sum = {};
    for (std::int64_t e = 0; e < width; e += kLanes) {
      Floats x, y;
      load(a + i * width + e, x);
      load(b + i * width + e, y);
      sum += x * y;
    }
    delta[i] = 0.0F;
    for (int lane = 0; lane < kLanes; ++lane) delta[i] += sum[lane];
  }
}

std::int64_t blocks_of(const GroupShape& shape) {
  return (shape.time + kBlock - 1) / kBlock;
}

}  // namespace

float* Workspace::get(std::size_t buffer, std::int64_t floats) {
  if (buffers_.size() <= buffer) buffers_.resize(buffer + 1);
  if (buffers_[buffer].size() < static_cast<std::size_t>(floats))
    buffers_[buffer].resize(static_cast<std::size_t>(floats));
  return buffers_[buffer].data();
}

void attention_forward(const GroupShape& shape, const Heads& q, const Heads& k, const Heads& v, const Heads& out,
                       float* lse, Workspace& workspace) {
  const std::int64_t width = shape.width, blocks = blocks_of(shape), rows = blocks * kBlock, size = rows * width;
  float* const keys = workspace.get(0, size);
  float* const keys_t = workspace.get(1, size);
  float* const values = workspace.get(2, size);
  float* const queries = workspace.get(3, size);
  float* const result = workspace.get(4, size);
  float* const row_lse = workspace.get(5, rows);
  float* const scores = workspace.get(6, kBlock * kBlock);
  pack(shape, k, 0, 1.0F, keys);
  transpose_blocks(keys, blocks, width, keys_t);
  pack(shape, v, 0, 1.0F, values);
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    pack(shape, q, head, shape.scale, queries);
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t row = block * kBlock, first = row * width;
      forward_block(width, block, queries + first, keys_t, values, result + first, row_lse + row, scores);
    }
    unpack(shape, result, 1.0F, out, head);
    std::copy(row_lse, row_lse + shape.time, lse + head * shape.time);
  }
}

namespace {

struct BackwardBuffers {
  float *keys, *keys_t, *values_t, *queries, *grad_out, *grad_q, *grad_k, *grad_v, *lse, *delta, *weights, *grad_scores;
};

BackwardBuffers backward_buffers(const GroupShape& shape, Workspace& workspace) {
  const std::int64_t rows = blocks_of(shape) * kBlock, size = rows * shape.width;
  std::size_t next = 0;
  const auto get = [&](std::int64_t floats) { return workspace.get(next++, floats); };
  BackwardBuffers b{};
  for (float** buffer : {&b.keys, &b.keys_t, &b.values_t, &b.queries, &b.grad_out, &b.grad_q, &b.grad_k, &b.grad_v}) {
    *buffer = get(size);
  }
  b.lse = get(rows);
  b.delta = get(rows);
  b.weights = get(kBlock * kBlock);
  b.grad_scores = get(kBlock * kBlock);
  return b;
}

// One query head: adds to the gradients of keys and values.
void backward_head(const GroupShape& shape, const BackwardBuffers& b) {
  const std::int64_t width = shape.width, blocks = blocks_of(shape);
  std::fill(b.grad_q, b.grad_q + blocks * kBlock * width, 0.0F);
  for (std::int64_t key = 0; key < blocks; ++key) {
    const std::int64_t of_key = key * kBlock * width;
    for (std::int64_t query = key; query < blocks; ++query) {
      const std::int64_t row = query * kBlock, of_query = row * width;
      const PairPointers pointers = {
          b.queries + of_query, b.grad_out + of_query, b.lse + row,         b.delta + row,     b.keys + of_key,
          b.keys_t + of_key,    b.values_t + of_key,   b.grad_q + of_query, b.grad_k + of_key, b.grad_v + of_key};
      backward_pair(width, query == key, pointers, b.weights, b.grad_scores);
    }
  }
}

}  // namespace

void attention_backward(const GroupShape& shape, const Heads& q, const Heads& k, const Heads& v, const Heads& out,
                        const Heads& grad_out, const float* lse, const GroupGradients& gradients,
                        Workspace& workspace) {
  const std::int64_t width = shape.width, blocks = blocks_of(shape), rows = blocks * kBlock, size = rows * width;
  const BackwardBuffers b = backward_buffers(shape, workspace);
  pack(shape, v, 0, 1.0F, b.keys);  // values, until they are transposed
  transpose_blocks(b.keys, blocks, width, b.values_t);
  pack(shape, k, 0, 1.0F, b.keys);
  transpose_blocks(b.keys, blocks, width, b.keys_t);
  std::fill(b.grad_k, b.grad_k + size, 0.0F);
  std::fill(b.grad_v, b.grad_v + size, 0.0F);
  std::fill(b.lse, b.lse + rows, 0.0F);
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    pack(shape, out, head, 1.0F, b.queries);  // the result, until delta is known
    pack(shape, grad_out, head, 1.0F, b.grad_out);
    row_products(b.queries, b.grad_out, rows, width, b.delta);
    pack(shape, q, head, shape.scale, b.queries);
    std::copy(lse + head * shape.time, lse + (head + 1) * shape.time, b.lse);
    backward_head(shape, b);
    unpack(shape, b.grad_q, shape.scale, gradients.q, head);
  }
  unpack(shape, b.grad_k, 1.0F, gradients.k, 0);
  unpack(shape, b.grad_v, 1.0F, gradients.v, 0);
}

}  // namespace norma::cpu
