// Where every tensor lies in flat storage. Integers only: the sharding engine fills buffers by it, the
// optimizer runs over its segments, checkpoints address tensors as ranges of it.
//
// A unit is a piece of the model whose parameters are needed together: the embedding table, one block, the final norm
// with the head. Its flat buffer is [ parameters that decay | those that do not | frozen ones ], each tensor's start
// aligned to kAlignment elements. Padding stays zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace norma {

inline constexpr std::int64_t kAlignment = 16;  // elements; keeps vector loads aligned

// What part of the model a unit is. A forward pass runs the table first and the head last.
enum class UnitRole { table, block, head };

// What a unit is and what its passes read: decided by the model's description, known to its storage and to runners.
struct UnitInfo {
  std::string name;  // "embedding", "blocks.3", "head"
  UnitRole role = UnitRole::block;
  std::vector<int> also_needs{};          // indices of units whose parameters it reads too (a tied head: the table)
  bool backward_reads_parameters = true;  // false: its backward pass needs none (a lookup in a table)
};

struct TensorSpan {
  std::string name;                 // full parameter name: "blocks.3.mlp.down.weight"
  std::vector<std::int64_t> shape;  // row-major
  std::int64_t offset = 0;          // its first element's index in the unit's flat buffer
  std::int64_t numel = 0;
  bool decay = false;   // weight decay applies
  bool frozen = false;  // never trained: no gradient, no update, no decay
};

struct UnitLayout : UnitInfo {
  std::vector<TensorSpan> tensors{};  // decaying ones first, frozen ones last
  std::int64_t decay_end = 0;         // [0, decay_end) decays
  std::int64_t trained_end = 0;       // [decay_end, trained_end) does not; the rest is frozen
  std::int64_t numel = 0;             // padded

  bool trains() const { return trained_end > 0; }
};

struct Layout {
  std::vector<UnitLayout> units;

  const TensorSpan* find(const std::string& tensor) const;  // nullptr when there is none
  std::vector<const TensorSpan*> tensors() const;           // of all units, in order
  std::int64_t num_parameters() const;                      // without padding
};

// The part of a unit's flat buffer that one rank owns: [begin, begin + numel) of a buffer padded to equal parts.
struct ShardSpan {
  std::int64_t begin = 0;
  std::int64_t numel = 0;
};

// Cuts a unit into `degree` equal shards, each a multiple of kAlignment elements (the last ones may hold padding only),
// and gives the one that `shard_rank` owns.
ShardSpan shard_of(const UnitLayout& unit, int degree, int shard_rank);

// Elements [begin, end) of a tensor, row-major, that lie in a rank's shard of the tensor's unit.
struct ShardPiece {
  const TensorSpan* tensor = nullptr;
  std::size_t unit = 0;    // index in Layout::units
  std::size_t number = 0;  // the tensor's index in Layout::tensors(), the same on every rank
  std::int64_t begin = 0, end = 0;
  std::int64_t offset = 0;  // of element `begin` in the shard

  std::int64_t numel() const { return end - begin; }
};

// Everything that a rank owns: the pieces of its shard of every unit, in the layout's order. The pointers are into
// `layout`.
std::vector<ShardPiece> pieces_of(const Layout& layout, int shard_degree, int shard_rank);

// Sorts the tensors of one unit into the three parts, keeping their order within each, and sets their offsets.
UnitLayout lay_out_unit(UnitInfo info, std::vector<TensorSpan> tensors);

}  // namespace norma
