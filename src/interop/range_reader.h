// Reads parameters out of stored tensors, whatever file those lie in.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "norma/checkpoint/safetensors.h"
#include "norma/interop/foreign_range.h"

namespace norma {

// Throws DataError unless `found` (null: it is missing) has the shape that `wanted` asks for and is F32, BF16 or F16.
// `where` names the file or folder, `by` what asked for the shape.
void check_tensor(const ForeignRange& wanted, const TensorInfo* found, const std::string& where, const std::string& by);

struct StoredTensor {
  std::string dtype;
  std::span<const std::byte> bytes;  // need not be aligned
};

class RangeReader {
 public:
  using Find = std::function<StoredTensor(const std::string& tensor)>;

  // The ranges of a parameter cover it.
  RangeReader(const std::vector<ForeignRange>& ranges, Find find);

  // As WeightReader.
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const;

 private:
  std::map<std::string, std::vector<ForeignRange>> by_parameter_;
  Find find_;
};

}  // namespace norma
