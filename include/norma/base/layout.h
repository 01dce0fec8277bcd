// Where every tensor lies in flat storage. Integers only: the sharding engine fills buffers by it, the
// optimizer runs over its segments, checkpoints address tensors as ranges of it.
//
// A unit's flat buffer: [ parameters that decay | those that do not | frozen ones ], each tensor's start aligned to
// kAlignment elements. Padding stays zero.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace norma {

inline constexpr std::int64_t kAlignment = 16;  // elements; keeps vector loads aligned

struct TensorSpan {
  std::string name;                 // full parameter name: "blocks.3.mlp.down.weight"
  std::vector<std::int64_t> shape;  // row-major
  std::int64_t offset = 0;          // of its first element in the unit's flat buffer
  std::int64_t numel = 0;
  bool decay = false;   // weight decay applies
  bool frozen = false;  // never trained: no gradient, no update, no decay
};

struct UnitLayout {
  std::string name;                 // "embedding", "blocks.3", "head"
  std::vector<TensorSpan> tensors;  // decaying ones first, frozen ones last
  std::int64_t decay_end = 0;       // [0, decay_end) decays
  std::int64_t trained_end = 0;     // [decay_end, trained_end) does not; the rest is frozen
  std::int64_t numel = 0;           // padded
};

struct Layout {
  std::vector<UnitLayout> units;

  const TensorSpan* find(const std::string& tensor) const;  // nullptr when there is none
  std::int64_t num_parameters() const;                      // without padding
};

// The part of a unit's flat buffer that one rank owns: [begin, begin + numel) of a buffer padded to equal parts.
struct ShardSpan {
  std::int64_t begin = 0;
  std::int64_t numel = 0;
};

// Cuts a unit into `degree` equal parts, each a multiple of kAlignment (the last ones may hold padding only), and gives
// the one at `place`.
ShardSpan shard_of(const UnitLayout& unit, int degree, int place);

// Elements [begin, end) of a tensor, row-major, that lie in a shard, `offset` elements from its start.
struct TensorPiece {
  const TensorSpan* tensor = nullptr;
  std::int64_t begin = 0, end = 0;
  std::int64_t offset = 0;
};

// What a shard holds, in order. The pointers are into `unit`.
std::vector<TensorPiece> pieces_of(const UnitLayout& unit, const ShardSpan& shard);

// Places the tensors of one unit (offsets are set here; their order within each half is kept).
UnitLayout lay_out_unit(std::string name, std::vector<TensorSpan> tensors);

}  // namespace norma
