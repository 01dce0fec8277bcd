// OLMo's weights, read from and written to a safetensors file.
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/checkpoint/state.h"
#include "norma/interop/olmo_folder.h"

#include "range_reader.h"

namespace norma {
namespace {

// The name of a parameter that FSDP wrapped contains the wrapper's.
std::string without_wrappers(std::string name) {
  constexpr std::string_view kWrapper = "_fsdp_wrapped_module.";
  for (std::size_t at = name.find(kWrapper); at != std::string::npos; at = name.find(kWrapper, at)) {
    name.erase(at, kWrapper.size());
  }
  return name;
}

SafetensorsFile open_file(const fs::path& file) {
  try {
    return SafetensorsFile(file);
  } catch (const CheckpointError& error) {
    throw DataError(error.what());
  }
}

std::string plain_name(const std::string& key, const std::string& where) {
  if (key.find('.') != std::string::npos) return without_wrappers(key);
  const std::optional<std::string> name = olmo_name(key);
  if (!name) {
    throw DataError(cat("[import] ", where, ": the key ", key.substr(0, 120),
                        " is neither a name nor OLMo's encoding of one tensor's name"));
  }
  return without_wrappers(*name);
}

}  // namespace

struct OlmoWeights::Stored {
  explicit Stored(const fs::path& path) : file(open_file(path)) {
    for (const TensorInfo& tensor : file.header().tensors) {
      const std::string name = plain_name(tensor.name, path.string());
      if (!key_of.emplace(name, tensor.name).second) {
        throw DataError(cat("[import] ", path.string(), ": ", name, " is there twice"));
      }
    }
  }
  const TensorInfo* find(const std::string& name) const {
    const auto found = key_of.find(name);
    return found == key_of.end() ? nullptr : file.find(found->second);
  }

  SafetensorsFile file;
  std::map<std::string, std::string> key_of;  // by OLMo's name
  std::unique_ptr<RangeReader> reader;
};

namespace {

void check_count(const ModelConfig& model, std::size_t tensors, const std::string& where) {
  if (model.num_layers <= static_cast<std::int64_t>(tensors)) return;
  throw DataError(cat("[import] ", where, ": the config says n_layers (model.num_layers) ", model.num_layers,
                      ", but there are only ", tensors, " tensors"));
}

}  // namespace

OlmoWeights::OlmoWeights(const fs::path& file, const ModelConfig& model, const NormPlan& plan)
    : stored_(std::make_unique<Stored>(file)) {
  check_olmo_model(model, plan);
  check_count(model, stored_->key_of.size(), file.string());
  const std::string experts = cat("the config's moe_num_experts (model.moe.num_experts) ", model.moe.num_experts);
  const Stored& stored = *stored_;
  ForeignFiles foreign;
  foreign.where = file.string();
  foreign.find = [&stored](const std::string& name) { return stored.find(name); };
  foreign.bytes_of = [&stored](const std::string& name) { return stored.file.bytes(stored.key_of.at(name)); };
  foreign.ranges_of = olmo_ranges_of;
  foreign.source_of_shape = [experts](const ParameterSpec& p, const ForeignRange&) {
    return counts_experts(p) ? experts : std::string("the config");
  };
  stored_->reader = std::make_unique<RangeReader>(model_parameters(model, plan), std::move(foreign));
  for (const auto& [name, key] : stored.key_of) {
    if (stored.reader->tensors().contains(name)) continue;
    throw DataError(cat("[import] ", file.string(), ": ", name, " does not belong to the model"));
  }
}

OlmoWeights::~OlmoWeights() = default;

void OlmoWeights::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  stored_->reader->read(parameter, begin, out);
}

namespace {

// The range's elements in the tensor's order.
void write_range(SafetensorsWriter& writer, const std::string& key, const ForeignRange& range,
                 const WeightReader& reader) {
  if (range.transposed_rows == 0) {
    return append_weights(writer, key, at::kFloat, {range.parameter, range.begin, range.count}, reader);
  }
  const at::Tensor values = at::empty({range.count}, at::kFloat);
  reader.read(range.parameter, range.begin, values);
  writer.write(key, bytes_of(values.view({range.transposed_rows, -1}).t().contiguous()));
}

}  // namespace

FileEntry export_olmo(const fs::path& file, const ModelConfig& model, const NormPlan& plan, const WeightReader& reader,
                      OlmoKeys keys) {
  std::vector<std::string> order;  // of the tensors in the file; a tensor's ranges are listed in its own order
  std::map<std::string, std::vector<ForeignRange>> by_tensor;
  for (const ForeignRange& range : olmo_ranges(model, plan)) {
    std::vector<ForeignRange>& of_tensor = by_tensor[range.tensor];
    if (of_tensor.empty()) order.push_back(range.tensor);
    of_tensor.push_back(range);
  }
  const auto key_of = [&](const std::string& name) { return keys == OlmoKeys::encoded ? olmo_key(name) : name; };
  std::vector<TensorInfo> infos;
  for (const std::string& name : order) infos.push_back({key_of(name), "F32", by_tensor[name][0].shape, 0, 0});
  StagedPath staged(file, "export");
  SafetensorsWriter writer(staged.path(), infos);
  for (const std::string& name : order) {
    for (const ForeignRange& range : by_tensor[name]) write_range(writer, key_of(name), range, reader);
  }
  FileEntry entry = writer.close();
  staged.publish();
  entry.name = file.filename().string();
  return entry;
}

}  // namespace norma
