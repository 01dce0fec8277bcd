// Tensors out of the safetensors files of a checkpoint.
#include <algorithm>
#include <cstring>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/checkpoint/state.h"

namespace norma {
namespace {

struct DtypeOfTensor {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeOfTensor kDtypes[] = {
    {"F64", at::kDouble}, {"F32", at::kFloat}, {"BF16", at::kBFloat16}, {"F16", at::kHalf}};

}  // namespace

at::ScalarType scalar_type(const std::string& dtype) {
  const auto* const found = std::ranges::find(kDtypes, dtype, &DtypeOfTensor::name);
  if (found == std::end(kDtypes)) {
    throw CheckpointError(cat("[checkpoint] a tensor of dtype ", dtype, " is not read; allowed: F64, F32, BF16, F16"));
  }
  return found->type;
}

std::string dtype_name(at::ScalarType type) {
  const auto* const found = std::ranges::find(kDtypes, type, &DtypeOfTensor::type);
  NORMA_CHECK(found != std::end(kDtypes), "[checkpoint] a tensor of type ", c10::toString(type), " is not written");
  return found->name;
}

at::Tensor stored_elements(const std::string& dtype, std::span<const std::byte> bytes, std::int64_t begin,
                           std::int64_t count) {
  at::Tensor values = at::empty({count}, scalar_type(dtype));
  const auto first = static_cast<std::size_t>(begin) * values.element_size();
  NORMA_CHECK(first + values.nbytes() <= bytes.size(), "[checkpoint] elements beyond the end of a stored tensor");
  std::memcpy(values.mutable_data_ptr(), bytes.data() + first, values.nbytes());
  return values;
}

CheckpointReader::CheckpointReader(const fs::path& folder, const Manifest& manifest, TensorKind kind)
    : folder_(folder) {
  for (const FileEntry& file : manifest.files) files_.push_back(file.name);
  for (const TensorEntry& tensor : manifest.tensors) {
    if (tensor.kind == kind) tensors_.emplace(tensor.name, tensor);
  }
}

const SafetensorsFile& CheckpointReader::file(std::int64_t index) const {
  return opened_.try_emplace(index, folder_ / files_[static_cast<std::size_t>(index)]).first->second;
}

void CheckpointReader::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  const auto found = tensors_.find(parameter);
  if (found == tensors_.end()) throw CheckpointError(cat("[checkpoint] ", folder_.string(), " lacks ", parameter));
  const TensorEntry& tensor = found->second;
  const std::int64_t end = begin + out.numel();
  std::int64_t done = 0;
  for (const TensorRange& range : tensor.ranges) {
    const std::int64_t first = std::max(begin, range.begin), last = std::min(end, range.end);
    if (first >= last) continue;
    const std::span<const std::byte> bytes = file(range.file).bytes(stored_name(tensor));
    const auto expected = static_cast<std::uint64_t>(range.end - range.begin) * dtype_bytes(tensor.dtype);
    if (bytes.size() != expected) {
      throw CheckpointError(
          cat("[checkpoint] tensor ", tensor.name, ": ", bytes.size(), " bytes stored, ", expected, " expected"));
    }
    out.narrow(0, first - begin, last - first)
        .copy_(stored_elements(tensor.dtype, bytes, first - range.begin, last - first));
    done += last - first;
  }
  NORMA_CHECK(done == out.numel(), "[checkpoint] ", parameter, " ends before element ", end);
}

}  // namespace norma
