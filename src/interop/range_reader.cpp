#include "range_reader.h"

#include <algorithm>
#include <cstring>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/text.h"

namespace norma {
namespace {

at::ScalarType scalar_type(const std::string& dtype) {
  if (dtype == "F64") return at::kDouble;  // of our own checkpoints; foreign files are checked
  if (dtype == "F32") return at::kFloat;
  return dtype == "BF16" ? at::kBFloat16 : at::kHalf;
}

// Elements [begin, begin + count) of a stored tensor, in its own type.
at::Tensor elements(const StoredTensor& stored, std::int64_t begin, std::int64_t count) {
  at::Tensor values = at::empty({count}, scalar_type(stored.dtype));
  const auto size = static_cast<std::size_t>(values.element_size());
  std::memcpy(values.mutable_data_ptr(), stored.bytes.data() + static_cast<std::size_t>(begin) * size,
              static_cast<std::size_t>(count) * size);
  return values;
}

// Elements [first, last) of the range's part of the parameter, counted from its begin.
at::Tensor values_of(const ForeignRange& range, const StoredTensor& stored, std::int64_t first, std::int64_t last) {
  if (range.transposed_rows == 0) return elements(stored, range.source + first, last - first);
  const at::Tensor matrix = elements(stored, range.source, range.count).view({-1, range.transposed_rows});
  return matrix.t().reshape(-1).narrow(0, first, last - first);
}

}  // namespace

void check_tensor(const ForeignRange& wanted, const TensorInfo* found, const std::string& where,
                  const std::string& by) {
  if (found == nullptr) throw DataError(cat("[import] ", where, " lacks ", wanted.tensor));
  if (found->shape != wanted.shape) {
    throw DataError(cat("[import] ", where, ": ", wanted.tensor, " must have the shape ", shape_text(wanted.shape),
                        " by ", by, "; got ", shape_text(found->shape)));
  }
  const std::string& dtype = found->dtype;
  if (dtype != "F32" && dtype != "BF16" && dtype != "F16") {
    throw DataError(cat("[import] ", where, ": ", wanted.tensor, " is ", dtype, "; allowed: F32, BF16, F16"));
  }
}

RangeReader::RangeReader(const std::vector<ForeignRange>& ranges, Find find) : find_(std::move(find)) {
  for (const ForeignRange& range : ranges) by_parameter_[range.parameter].push_back(range);
  for (auto& [name, of_parameter] : by_parameter_) {
    std::ranges::sort(of_parameter, {}, &ForeignRange::begin);
  }
}

void RangeReader::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  const std::int64_t end = begin + out.numel();
  const auto found = by_parameter_.find(parameter);
  NORMA_CHECK(found != by_parameter_.end(), "[import] no parameter ", parameter);
  std::int64_t done = 0;
  for (const ForeignRange& range : found->second) {
    const std::int64_t first = std::max(begin, range.begin), last = std::min(end, range.begin + range.count);
    if (first >= last) continue;
    out.narrow(0, first - begin, last - first)
        .copy_(values_of(range, find_(range.tensor), first - range.begin, last - range.begin));
    done += last - first;
  }
  NORMA_CHECK(done == out.numel(), "[import] ", parameter, " ends before element ", end);
}

}  // namespace norma
