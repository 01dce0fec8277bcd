// Weights on their way into flat storage, wherever they come from.
//
// A WeightReader gives any range of any parameter: the initial draw, a checkpoint, a folder of another program. A rank
// asks for the pieces of its shard alone and in parts, so no source needs to know how a model is sharded, and no rank
// ever holds more of it than it owns.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/layout.h"

namespace norma {

// Weights are read and written in parts of at most so many elements, which bounds the memory beside the model's own.
inline constexpr std::int64_t kElementsAtOnce = std::int64_t{1} << 22;

class WeightReader {
 public:
  virtual ~WeightReader() = default;
  // Elements [begin, begin + out.numel()) of a parameter, row-major, into out: 1-D, floating, on any device.
  virtual void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const = 0;
};

// The piece's elements, a view [end - begin] of the rank's flat buffer of the unit.
inline at::Tensor values_of(const ShardPiece& piece, const at::Tensor& shard) {
  return shard.narrow(0, piece.offset, piece.numel());
}

// Reads all pieces into a rank's shards: one flat buffer for each unit. Called without autograd.
inline void fill(const std::vector<ShardPiece>& pieces, const std::vector<at::Tensor>& shards,
                 const WeightReader& reader) {
  for (const ShardPiece& piece : pieces) {
    const at::Tensor values = values_of(piece, shards[piece.unit]);
    for (std::int64_t done = 0; done < piece.numel(); done += kElementsAtOnce) {
      const std::int64_t count = std::min(kElementsAtOnce, piece.numel() - done);
      reader.read(piece.tensor->name, piece.begin + done, values.narrow(0, done, count));
    }
  }
}

inline std::span<const std::byte> bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

}  // namespace norma
