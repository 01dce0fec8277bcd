// Weights of any reader as safetensors files.
#include <algorithm>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/checkpoint/state.h"

namespace norma {

namespace {

constexpr const char* kFileName = "model.safetensors";

// Passes on what another reader gives, as long as it is finite.
class FiniteWeights final : public WeightReader {
 public:
  explicit FiniteWeights(const WeightReader& source) : source_(source) {}
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override {
    source_.read(parameter, begin, out);
    if (out.isfinite().all().item<bool>()) return;
    throw DataError(cat("[checkpoint] ", parameter, " would hold values that are not finite"));
  }

 private:
  const WeightReader& source_;
};

FileEntry write_file(const fs::path& path, const std::vector<TensorInfo>& tensors, const StringPairs& metadata,
                     const WeightReader& reader) {
  SafetensorsWriter writer(path, tensors, metadata);
  for (const TensorInfo& tensor : tensors) {
    const ParameterRange whole = {tensor.name, 0, element_count(tensor.shape).value()};
    append_weights(writer, tensor.name, scalar_type(tensor.dtype), whole, reader);
  }
  return writer.close();
}

}  // namespace

void append_weights(SafetensorsWriter& writer, const std::string& name, at::ScalarType type,
                    const ParameterRange& range, const WeightReader& reader) {
  for (std::int64_t done = 0; done < range.count; done += kElementsAtOnce) {
    const at::Tensor values = at::empty({std::min(kElementsAtOnce, range.count - done)}, type);
    reader.read(range.parameter, range.begin + done, values);
    writer.write(name, bytes_of(values));
  }
}

FileEntry consolidate_weights(const fs::path& checkpoint, const fs::path& file) {
  const Manifest manifest = verify_checkpoint(checkpoint);
  std::vector<TensorInfo> tensors;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (tensor.kind == TensorKind::weight) tensors.push_back({tensor.name, tensor.dtype, tensor.shape, 0, 0});
  }
  StagedPath staged(file, "export");
  const StringPairs metadata = {{"norma.config", manifest.config}, {"norma.step", std::to_string(manifest.step)}};
  FileEntry entry = write_file(staged.path(), tensors, metadata, CheckpointReader(checkpoint, manifest));
  staged.publish();
  entry.name = file.filename().string();
  return entry;
}

fs::path write_checkpoint(const fs::path& root, Manifest manifest, const std::vector<TensorInfo>& tensors,
                          const WeightReader& reader) {
  PendingCheckpoint pending(root, manifest.step);
  manifest.files = {write_file(pending.file(kFileName), tensors, {}, FiniteWeights(reader))};
  for (const TensorInfo& tensor : tensors) {
    const std::int64_t numel = element_count(tensor.shape).value();
    manifest.tensors.push_back({tensor.name, TensorKind::weight, tensor.dtype, tensor.shape, {{0, 0, numel}}});
  }
  return pending.commit(manifest);
}

}  // namespace norma
