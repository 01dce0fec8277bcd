// What a model keeps of the tokens it has seen, so that the next one costs one token's work.
//
// Shapes: B sequences (rows), S tokens, K kv heads, E head dim, H query heads. A row's token at position s lies in
// place s. Rows may have seen different numbers of tokens: then the places behind a row's own are masked.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace norma {

// Values of the tokens seen, [B, S, ...]: the first places of a buffer that doubles when it is full, so that adding a
// token moves none of the others.
class TokenStore {
 public:
  bool defined() const { return buffer_.defined(); }
  at::Tensor seen() const;  // [B, S, ...], a view
  std::int64_t bytes() const;

  // Adds now [B, T, ...] behind what all rows have seen. Makes room for `reserve` tokens when it first needs room.
  void append(const at::Tensor& now, std::int64_t reserve);
  // Adds one token per row, now [B, 1, ...], each in its row's own place. places [B] int64.
  void append_at(const at::Tensor& now, const at::Tensor& places);

  void take_rows(const at::Tensor& rows);  // rows [n] int64
  void set_length(std::int64_t length);    // S: how many places any row has filled
  // Puts a store of one row into a row of this one, which has `rows` of them and, when new, `reserve` places.
  void set_row(std::int64_t row, const TokenStore& one, std::int64_t rows, std::int64_t reserve);

 private:
  void make_room(const at::Tensor& like, std::int64_t rows, std::int64_t needed, std::int64_t reserve);

  at::Tensor buffer_;
  std::int64_t length_ = 0;
};

// What a layer keeps.
struct LayerCache {
  TokenStore keys, values;            // grouped-query: [B, S, K, E], keys already rotated
  TokenStore latent, rope_key;        // latent: [B, S, rank] after its norm, [B, S, rope_dim] after norm and RoPE
  TokenStore key_scale, value_scale;  // latent, where k or v is normed: factors [B, S, H] or [B, S, 1], gains apart

  std::int64_t bytes() const;
};

class DecodeCache {
 public:
  DecodeCache() = default;
  // With room for `reserve` tokens of a row from the start.
  explicit DecodeCache(std::int64_t reserve) : reserve_(reserve) {}

  std::vector<LayerCache> layers;
  TokenStore ids;           // [B, S] the tokens themselves: documents are told apart by them
  std::int64_t length = 0;  // tokens seen, of the row that saw most

  // Tokens that each row has seen, [B] int64 on the model's device; undefined while all have seen `length`.
  const at::Tensor& row_lengths() const { return row_lengths_; }

  // Adds to one of this cache's stores.
  void append(TokenStore& store, const at::Tensor& now) const;
  // Every row has now seen `tokens` more; called once all stores have them.
  void advance(std::int64_t tokens);

  // A batch of `rows` sequences is filled row by row from caches of one sequence, at any time anew.
  void set_row(std::int64_t row, const DecodeCache& one, std::int64_t rows);
  // Row i becomes what row rows[i] is; a row may be taken several times.
  void take_rows(const std::vector<std::int64_t>& rows);

 private:
  void set_lengths(std::vector<std::int64_t> lengths, at::Device device);

  std::int64_t reserve_ = 0;
  std::vector<std::int64_t> lengths_;  // by row, once rows were set
  at::Tensor row_lengths_;
};

}  // namespace norma
