// OLMo's weights in and out of a safetensors file.
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/interop/olmo_folder.h"
#include "norma/interop/olmo_names.h"

#include "range_reader.h"

namespace norma {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 24;  // elements

// Parameters wrapped for FSDP carry its name.
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
  std::map<std::string, std::string> key_of;
  std::map<std::string, ParameterSpec> parameters;  // of the model, by our names
};

namespace {

void check_count(const ModelConfig& model, std::size_t tensors, const std::string& where) {
  if (model.num_layers <= static_cast<std::int64_t>(tensors)) return;
  throw DataError(cat("[import] ", where, ": the config says n_layers (model.num_layers) ", model.num_layers,
                      ", but there are only ", tensors, " tensors"));
}

// What a tensor's shape follows from, for messages.
std::string source_of(const ParameterSpec& p, const ModelConfig& model) {
  const bool counts_experts = p.role == ParameterRole::router || p.role == ParameterRole::experts_up_gate ||
                              p.role == ParameterRole::experts_down;
  return counts_experts ? cat("the config's moe_num_experts (model.moe.num_experts) ", model.moe.num_experts)
                        : "the config";
}

}  // namespace

OlmoWeights::OlmoWeights(const fs::path& file, const ModelConfig& model, const NormPlan& plan)
    : stored_(std::make_unique<Stored>(file)) {
  check_olmo_model(model, plan);
  check_count(model, stored_->key_of.size(), file.string());
  std::set<std::string> wanted;
  for (const UnitSpec& unit : model_parameters(model, plan)) {
    for (const ParameterSpec& p : unit.parameters) {
      // Many ranges for each tensor of experts, whose number is only the config's until that tensor is compared.
      for (const ForeignRange& range : olmo_ranges_of(p)) {
        if (!wanted.insert(range.tensor).second) continue;
        check_tensor(range, stored_->find(range.tensor), file.string(), source_of(p, model));
      }
      stored_->parameters.emplace(p.name, p);
    }
  }
  for (const auto& [name, key] : stored_->key_of) {
    if (!wanted.contains(name))
      throw DataError(cat("[import] ", file.string(), ": ", name, " has no place in the model"));
  }
}

OlmoWeights::~OlmoWeights() = default;

void OlmoWeights::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  const auto found = stored_->parameters.find(parameter);
  NORMA_CHECK(found != stored_->parameters.end(), "[import] no parameter ", parameter);
  const RangeReader reader(olmo_ranges_of(found->second), [this](const std::string& tensor) {
    const TensorInfo& info = *stored_->find(tensor);
    return StoredTensor{info.dtype, stored_->file.bytes(info.name)};
  });
  reader.read(parameter, begin, out);
}

namespace {

void write_values(SafetensorsWriter& writer, const std::string& key, const at::Tensor& values) {
  writer.write(key, {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()});
}

// The range's elements in the tensor's order.
void write_range(SafetensorsWriter& writer, const std::string& key, const ForeignRange& range,
                 const WeightReader& read) {
  if (range.transposed_rows > 0) {
    const at::Tensor values = at::empty({range.count}, at::kFloat);
    read(range.parameter, range.begin, values);
    return write_values(writer, key, values.view({range.transposed_rows, -1}).t().contiguous());
  }
  for (std::int64_t done = 0; done < range.count; done += kChunk) {
    const at::Tensor values = at::empty({std::min(kChunk, range.count - done)}, at::kFloat);
    read(range.parameter, range.begin + done, values);
    write_values(writer, key, values);
  }
}

}  // namespace

FileEntry export_olmo(const fs::path& file, const ModelConfig& model, const NormPlan& plan, const WeightReader& read,
                      OlmoKeys keys) {
  std::vector<std::string> order;  // tensors as they first come; their ranges come in the tensor's order
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
    for (const ForeignRange& range : by_tensor[name]) write_range(writer, key_of(name), range, read);
  }
  FileEntry entry = writer.close();
  staged.publish();
  entry.name = file.filename().string();
  return entry;
}

}  // namespace norma
