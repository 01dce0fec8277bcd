#include "norma/interop/checkpoint_weights.h"

#include <memory>

#include "norma/base/text.h"
#include "norma/checkpoint/commit.h"

#include "range_reader.h"

namespace norma {
namespace {

// The files that hold weights, and under which name each range of a tensor lies in which of them.
struct CheckpointFiles {
  std::vector<SafetensorsFile> files;
  std::map<std::string, StoredTensor> tensors;
};

}  // namespace

WeightReader checkpoint_weights(const fs::path& checkpoint) {
  const Manifest manifest = verify_checkpoint(checkpoint);
  const auto opened = std::make_shared<CheckpointFiles>();
  std::map<std::int64_t, std::size_t> place_of;  // index in the manifest -> in `files`
  std::vector<ForeignRange> ranges;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (tensor.kind != TensorKind::weight) continue;
    for (const TensorRange& range : tensor.ranges) {
      const auto [place, fresh] = place_of.emplace(range.file, opened->files.size());
      if (fresh) opened->files.emplace_back(checkpoint / manifest.files[static_cast<std::size_t>(range.file)].name);
      const std::string name = cat(range.file, ":", tensor.name);
      opened->tensors[name] = {tensor.dtype, opened->files[place->second].bytes(stored_name(tensor))};
      ranges.push_back({name, stored_shape(tensor, range), tensor.name, range.begin, range.end - range.begin, 0});
    }
  }
  const auto reader = std::make_shared<const RangeReader>(
      ranges, [opened](const std::string& tensor) { return opened->tensors.at(tensor); });
  return [reader](const std::string& parameter, std::int64_t begin, const at::Tensor& out) {
    reader->read(parameter, begin, out);
  };
}

}  // namespace norma
