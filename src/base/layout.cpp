#include "norma/base/layout.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "norma/base/error.h"

namespace norma {

namespace {

std::int64_t round_up(std::int64_t elements) {
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

std::int64_t count_elements(const TensorSpan& tensor) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 1024;  // leaves room for bytes and sums
  std::int64_t numel = 1;
  for (const std::int64_t size : tensor.shape) {
    NORMA_CHECK(size > 0 && size <= kMost / numel, "[layout] '", tensor.name,
                "' needs positive sizes whose product fits; got a size of ", size);
    numel *= size;
  }
  return numel;
}

}  // namespace

const TensorSpan* Layout::find(const std::string& tensor) const {
  for (const UnitLayout& unit : units) {
    for (const TensorSpan& span : unit.tensors) {
      if (span.name == tensor) return &span;
    }
  }
  return nullptr;
}

std::vector<const TensorSpan*> Layout::tensors() const {
  std::vector<const TensorSpan*> all;
  for (const UnitLayout& unit : units) {
    for (const TensorSpan& span : unit.tensors) all.push_back(&span);
  }
  return all;
}

std::int64_t Layout::num_parameters() const {
  std::int64_t total = 0;
  for (const TensorSpan* span : tensors()) total += span->numel;
  return total;
}

UnitLayout lay_out_unit(UnitInfo info, std::vector<TensorSpan> tensors) {
  UnitLayout unit{std::move(info)};
  std::unordered_set<std::string> names;
  const auto part_of = [](const TensorSpan& tensor) { return tensor.frozen ? 2 : tensor.decay ? 0 : 1; };
  for (const int part : {0, 1, 2}) {
    for (TensorSpan& tensor : tensors) {
      if (part_of(tensor) != part) continue;
      NORMA_CHECK(names.insert(tensor.name).second, "[layout] unit '", unit.name, "' holds '", tensor.name, "' twice");
      tensor.numel = count_elements(tensor);
      tensor.offset = unit.numel;
      unit.numel = round_up(unit.numel + tensor.numel);
      unit.tensors.push_back(std::move(tensor));
    }
    if (part == 0) unit.decay_end = unit.numel;
    if (part == 1) unit.trained_end = unit.numel;
  }
  return unit;
}

ShardSpan shard_of(const UnitLayout& unit, int degree, int shard_rank) {
  NORMA_CHECK(degree > 0 && shard_rank >= 0 && shard_rank < degree, "[layout] shard ", shard_rank, " of ", degree);
  const std::int64_t numel = round_up((unit.numel + degree - 1) / degree);
  return {numel * shard_rank, numel};
}

std::vector<ShardPiece> pieces_of(const Layout& layout, int shard_degree, int shard_rank) {
  std::vector<ShardPiece> pieces;
  std::size_t number = 0;
  for (std::size_t u = 0; u < layout.units.size(); ++u) {
    const ShardSpan shard = shard_of(layout.units[u], shard_degree, shard_rank);
    for (const TensorSpan& tensor : layout.units[u].tensors) {
      const std::int64_t begin = std::max(tensor.offset, shard.begin);
      const std::int64_t end = std::min(tensor.offset + tensor.numel, shard.begin + shard.numel);
      if (begin < end) {
        pieces.push_back({&tensor, u, number, begin - tensor.offset, end - tensor.offset, begin - shard.begin});
      }
      ++number;
    }
  }
  return pieces;
}

}  // namespace norma
