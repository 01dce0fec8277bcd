// Tensors of other programs' files as ranges of our parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace norma {

// A range of a tensor as a foreign file names it, and where it lies in one of our parameters. A matrix that lies there
// transposed says how many rows it has here.
struct ForeignRange {
  std::string tensor;
  std::vector<std::int64_t> shape;  // of the whole tensor
  std::string parameter;
  std::int64_t begin = 0;            // first element of the parameter
  std::int64_t count = 0;            // elements
  std::int64_t source = 0;           // first element of the tensor
  std::int64_t transposed_rows = 0;  // 0: the elements have the same order in both
};

// Elements [begin, begin + out.numel()) of one of our parameters, row-major, into out (1-D, floating).
using WeightReader = std::function<void(const std::string& parameter, std::int64_t begin, const at::Tensor& out)>;

}  // namespace norma
