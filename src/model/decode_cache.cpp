#include "norma/model/decode_cache.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "norma/base/error.h"

namespace norma {
namespace {

template <class Cache, class Function>
void for_each_store(Cache& layer, const Function& function) {
  for (auto store : {&LayerCache::keys, &LayerCache::values, &LayerCache::latent, &LayerCache::rope_key,
                     &LayerCache::key_scale, &LayerCache::value_scale}) {
    function(layer.*store, store);
  }
}

}  // namespace

at::Tensor TokenStore::seen() const {
  return buffer_.narrow(1, 0, length_);
}

std::int64_t TokenStore::bytes() const {
  return defined() ? static_cast<std::int64_t>(seen().nbytes()) : 0;
}

// What no token has filled is masked, but must be finite all the same: zero.
void TokenStore::make_room(const at::Tensor& like, std::int64_t rows, std::int64_t needed, std::int64_t reserve) {
  const std::int64_t before = defined() ? buffer_.size(1) : 0;
  if (needed <= before) return;
  std::vector<std::int64_t> shape = like.sizes().vec();
  shape[0] = rows;
  shape[1] = std::max({needed, reserve, 2 * before});
  const at::Tensor larger = at::zeros(shape, like.options());
  if (before > 0) larger.narrow(1, 0, length_).copy_(seen());
  buffer_ = larger;
}

void TokenStore::append(const at::Tensor& now, std::int64_t reserve) {
  const std::int64_t tokens = now.size(1);
  make_room(now, now.size(0), length_ + tokens, reserve);
  buffer_.narrow(1, length_, tokens).copy_(now.detach());
  length_ += tokens;
}

void TokenStore::append_at(const at::Tensor& now, const at::Tensor& positions) {
  make_room(now, now.size(0), length_ + 1, 0);
  const at::Tensor rows = at::arange(now.size(0), positions.options());
  buffer_.index_put_({rows, positions}, now.select(1, 0));
  ++length_;
}

void TokenStore::take_rows(const at::Tensor& rows) {
  if (defined()) buffer_ = buffer_.index_select(0, rows);
}

void TokenStore::set_length(std::int64_t length) {
  if (defined()) length_ = length;
}

void TokenStore::set_row(std::int64_t row, const TokenStore& one, std::int64_t rows, std::int64_t reserve) {
  if (!one.defined()) return;
  make_room(one.buffer_, rows, one.length_, reserve);
  buffer_[row].narrow(0, 0, one.length_).copy_(one.seen()[0]);
}

std::int64_t LayerCache::bytes() const {
  std::int64_t sum = 0;
  for_each_store(*this, [&](const TokenStore& store, auto) { sum += store.bytes(); });
  return sum;
}

void DecodeCache::append(TokenStore& store, const at::Tensor& now) const {
  row_lengths_.defined() ? store.append_at(now, row_lengths_) : store.append(now, reserve_);
}

void DecodeCache::advance(std::int64_t tokens) {
  length += tokens;
  for (std::int64_t& one : lengths_) one += tokens;
  if (row_lengths_.defined()) row_lengths_ = row_lengths_ + tokens;
}

void DecodeCache::set_lengths(std::vector<std::int64_t> lengths, at::Device device) {
  lengths_ = std::move(lengths);
  length = *std::ranges::max_element(lengths_);
  const bool equal = std::ranges::all_of(lengths_, [&](std::int64_t one) { return one == length; });
  row_lengths_ = equal ? at::Tensor() : at::tensor(lengths_, at::kLong).to(device);
  const auto fit = [&](TokenStore& store) { store.set_length(length); };
  fit(ids);
  for (LayerCache& layer : layers) for_each_store(layer, [&](TokenStore& store, auto) { fit(store); });
}

void DecodeCache::set_row(std::int64_t row, const DecodeCache& one, std::int64_t rows) {
  layers.resize(one.layers.size());
  std::vector<std::int64_t> lengths = lengths_;
  lengths.resize(static_cast<std::size_t>(rows), 0);
  lengths[static_cast<std::size_t>(row)] = one.length;
  ids.set_row(row, one.ids, rows, reserve_);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    for_each_store(layers[l],
                   [&](TokenStore& store, auto member) { store.set_row(row, one.layers[l].*member, rows, reserve_); });
  }
  set_lengths(std::move(lengths), one.ids.seen().device());
}

void DecodeCache::take_rows(const std::vector<std::int64_t>& rows) {
  std::vector<std::int64_t> lengths;
  for (const std::int64_t row : rows) {
    lengths.push_back(lengths_.empty() ? length : lengths_.at(static_cast<std::size_t>(row)));
  }
  const at::Device device = ids.seen().device();
  const at::Tensor index = at::tensor(rows, at::kLong).to(device);
  ids.take_rows(index);
  for (LayerCache& layer : layers) for_each_store(layer, [&](TokenStore& store, auto) { store.take_rows(index); });
  set_lengths(std::move(lengths), device);
}

}  // namespace norma
