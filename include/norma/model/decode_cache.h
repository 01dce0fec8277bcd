// What a model keeps of the tokens it has seen, so that the next one costs one token's work.
//
// Shapes: B sequences (rows), S tokens, K kv heads, E head dim, H query heads. Index s of the second dimension is the
// token's position in its row. Rows may have seen different numbers of tokens: the positions behind a shorter row's end
// are masked.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace norma {

// Values of the tokens seen, [B, S, ...]: the first S positions of a buffer that doubles when it is full, so that
// adding a token moves none of the others.
class TokenStore {
 public:
  bool defined() const { return buffer_.defined(); }
  at::Tensor seen() const;  // [B, S, ...], a view
  std::int64_t bytes() const;

  // Adds now [B, T, ...] behind what all rows have seen. Makes room for `reserve` tokens when it first needs room.
  void append(const at::Tensor& now, std::int64_t reserve);
  // Adds one token per row, now [B, 1, ...], at each row's own position. positions [B] int64.
  void append_at(const at::Tensor& now, const at::Tensor& positions);

  void take_rows(const at::Tensor& rows);  // rows [n] int64
  void set_length(std::int64_t length);    // S: the length of the longest row
  // Copies a store of one row into row `row` of this one, which has `rows` rows and, if new, room for `reserve` tokens.
  void set_row(std::int64_t row, const TokenStore& one, std::int64_t rows, std::int64_t reserve);

 private:
  void make_room(const at::Tensor& like, std::int64_t rows, std::int64_t needed, std::int64_t reserve);

  at::Tensor buffer_;
  std::int64_t length_ = 0;
};

struct LayerCache {
  TokenStore keys, values;            // grouped-query: [B, S, K, E], keys already rotated
  TokenStore latent, rope_key;        // latent: [B, S, rank] after its norm, [B, S, rope_dim] after norm and RoPE
  TokenStore key_scale, value_scale;  // latent, where k or v is normed: the norm's factors [B, S, H] or [B, S, 1],
                                      // without its gains

  std::int64_t bytes() const;
};

class DecodeCache {
 public:
  DecodeCache() = default;
  // Has room for `reserve` tokens per row from the start.
  explicit DecodeCache(std::int64_t reserve) : reserve_(reserve) {}

  std::vector<LayerCache> layers;
  TokenStore ids;           // [B, S] the tokens themselves: they tell where documents end
  std::int64_t length = 0;  // number of tokens seen by the row that has seen most

  // How many tokens each row has seen, [B] int64 on the model's device; undefined while all have seen `length`.
  const at::Tensor& row_lengths() const { return row_lengths_; }

  // Adds the values of new tokens to one of this cache's stores.
  void append(TokenStore& store, const at::Tensor& now) const;
  // Counts `tokens` more for every row; called when all stores have them.
  void advance(std::int64_t tokens);

  // Fills row `row` of a batch of `rows` sequences from a cache of one sequence; may be called for a row again.
  void set_row(std::int64_t row, const DecodeCache& one, std::int64_t rows);
  // Row i becomes a copy of what row rows[i] was; a row may be taken several times.
  void take_rows(const std::vector<std::int64_t>& rows);

 private:
  void set_lengths(std::vector<std::int64_t> lengths, at::Device device);

  std::int64_t reserve_ = 0;
  std::vector<std::int64_t> lengths_;  // by row; empty until a row is set
  at::Tensor row_lengths_;
};

}  // namespace norma
