#include "range_reader.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/checkpoint/state.h"

namespace norma {
namespace {

// `found` is null when the tensor is missing.
void check_tensor(const ForeignRange& wanted, const TensorInfo* found, const std::string& where,
                  const std::string& source_of_shape) {
  if (found == nullptr) throw DataError(cat("[import] ", where, " lacks ", wanted.tensor));
  if (found->shape != wanted.shape) {
    throw DataError(cat("[import] ", where, ": ", wanted.tensor, " must have the shape ", shape_text(wanted.shape),
                        " by ", source_of_shape, "; got ", shape_text(found->shape)));
  }
  const std::string& dtype = found->dtype;
  if (dtype != "F32" && dtype != "BF16" && dtype != "F16") {
    throw DataError(cat("[import] ", where, ": ", wanted.tensor, " is ", dtype, "; allowed: F32, BF16, F16"));
  }
}

}  // namespace

bool counts_experts(const ParameterSpec& parameter) {
  return parameter.role == ParameterRole::experts_up_gate || parameter.role == ParameterRole::experts_down ||
         parameter.role == ParameterRole::router || parameter.role == ParameterRole::selection_bias;
}

RangeReader::RangeReader(const std::vector<UnitSpec>& units, ForeignFiles files) : files_(std::move(files)) {
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& p : unit.parameters) {
      for (const ForeignRange& range : files_.ranges_of(p)) {
        if (!tensors_.insert(range.tensor).second) continue;
        check_tensor(range, files_.find(range.tensor), files_.where, files_.source_of_shape(p, range));
      }
      parameters_.emplace(p.name, p);
    }
  }
}

void RangeReader::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  const auto found = parameters_.find(parameter);
  NORMA_CHECK(found != parameters_.end(), "[import] no parameter ", parameter);
  const std::int64_t end = begin + out.numel();
  std::int64_t done = 0;
  for (const ForeignRange& range : files_.ranges_of(found->second)) {
    const std::int64_t first = std::max(begin, range.begin), last = std::min(end, range.begin + range.count);
    if (first >= last) continue;
    const std::string& dtype = files_.find(range.tensor)->dtype;
    const std::span<const std::byte> bytes = files_.bytes_of(range.tensor);
    const std::int64_t skipped = first - range.begin, count = last - first;
    at::Tensor values;
    if (range.transposed_rows == 0) {
      values = stored_elements(dtype, bytes, range.source + skipped, count);
    } else {
      const at::Tensor matrix = stored_elements(dtype, bytes, range.source, range.count);
      values = matrix.view({-1, range.transposed_rows}).t().reshape(-1).narrow(0, skipped, count);
    }
    out.narrow(0, first - begin, count).copy_(values);
    done += count;
  }
  NORMA_CHECK(done == out.numel(), "[import] ", parameter, " ends before element ", end);
}

}  // namespace norma
