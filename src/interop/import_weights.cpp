#include "norma/interop/import_weights.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/checkpoint/commit.h"

namespace norma {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 24;  // elements
constexpr const char* kFileName = "model.safetensors";

void write_parameter(SafetensorsWriter& writer, const ParameterSpec& parameter, at::ScalarType type,
                     const WeightReader& read) {
  const std::int64_t numel = parameter.numel();
  for (std::int64_t done = 0; done < numel; done += kChunk) {
    const at::Tensor values = at::empty({std::min(kChunk, numel - done)}, type);
    read(parameter.name, done, values);
    if (!values.isfinite().all().item<bool>()) {
      throw DataError(cat("[import] ", parameter.name, " would hold values that are not finite"));
    }
    writer.write(parameter.name, {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()});
  }
}

}  // namespace

fs::path write_imported_checkpoint(const fs::path& root, Manifest manifest, const std::vector<UnitSpec>& units,
                                   Precision precision, const WeightReader& read) {
  const bool wide = precision == Precision::fp64;  // what an engine of this precision keeps
  PendingCheckpoint pending(root, manifest.step);
  std::vector<TensorInfo> infos;
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& p : unit.parameters) {
      infos.push_back({p.name, wide ? "F64" : "F32", p.shape, 0, 0});
      manifest.tensors.push_back({p.name, TensorKind::weight, infos.back().dtype, p.shape, {{0, 0, p.numel()}}});
    }
  }
  SafetensorsWriter writer(pending.file(kFileName), infos);
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& p : unit.parameters) write_parameter(writer, p, wide ? at::kDouble : at::kFloat, read);
  }
  manifest.files = {writer.close()};
  return pending.commit(manifest);
}

}  // namespace norma
