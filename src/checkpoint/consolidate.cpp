#include "norma/checkpoint/consolidate.h"

#include <map>

#include "norma/base/file.h"
#include "norma/checkpoint/commit.h"

namespace norma {
namespace {

std::vector<TensorEntry> weights_of(const Manifest& manifest) {
  std::vector<TensorEntry> weights;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (tensor.kind == TensorKind::weight) weights.push_back(tensor);
  }
  return weights;
}

}  // namespace

FileEntry consolidate_weights(const fs::path& checkpoint, const fs::path& file) {
  const Manifest manifest = verify_checkpoint(checkpoint);
  const std::vector<TensorEntry> weights = weights_of(manifest);
  std::vector<TensorInfo> infos;
  for (const TensorEntry& tensor : weights) infos.push_back({tensor.name, tensor.dtype, tensor.shape, 0, 0});
  StagedPath temporary(file, "export");
  SafetensorsWriter writer(temporary.path(), infos,
                           {{"norma.config", manifest.config}, {"norma.step", std::to_string(manifest.step)}});
  std::map<std::int64_t, SafetensorsFile> sources;
  for (const TensorEntry& tensor : weights) {
    for (const TensorRange& range : tensor.ranges) {
      const fs::path path = checkpoint / manifest.files[static_cast<std::size_t>(range.file)].name;
      writer.write(tensor.name, sources.try_emplace(range.file, path).first->second.bytes(stored_name(tensor)));
    }
  }
  FileEntry entry = writer.close();
  temporary.publish();
  entry.name = file.filename().string();
  return entry;
}

}  // namespace norma
