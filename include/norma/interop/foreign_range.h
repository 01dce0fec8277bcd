// Tensors of other programs' files as ranges of our parameters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace norma {

// Consecutive elements of one of our parameters, and where they are in a foreign tensor.
struct ForeignRange {
  std::string tensor;               // as the foreign file names it
  std::vector<std::int64_t> shape;  // of the whole tensor
  std::string parameter;
  std::int64_t begin = 0;            // first element of the parameter
  std::int64_t count = 0;            // elements
  std::int64_t source = 0;           // first element of the tensor
  std::int64_t transposed_rows = 0;  // rows here of a matrix that is transposed there; 0: the order is the same
};

}  // namespace norma
