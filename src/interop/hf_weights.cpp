#include "hf_weights.h"

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/base/text.h"

namespace norma {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::uint64_t kMaxIndexBytes = 64 << 20;

bool is_plain_name(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

}  // namespace

HfWeights::HfWeights(const fs::path& folder) : folder_(folder) {
  const fs::path single = folder / kSingleFile, index = folder / kIndexFile;
  const bool has_single = fs::exists(single), has_index = fs::exists(index);
  if (has_single == has_index) {
    throw DataError(cat("[import] ", folder.string(), " must hold either ", kSingleFile, " or ", kIndexFile,
                        has_single ? "; it holds both" : "; it holds neither"));
  }
  if (has_single) {
    open(kSingleFile);
  } else {
    check_index(index);
  }
}

void HfWeights::open(const fs::path& name) {
  const auto opened = [&] {
    try {
      return files_.emplace(name.string(), SafetensorsFile(folder_ / name)).first;
    } catch (const CheckpointError& error) {
      throw DataError(error.what());
    }
  }();
  for (const TensorInfo& tensor : opened->second.header().tensors) {
    if (!file_of_.emplace(tensor.name, &opened->second).second) {
      throw DataError(
          cat("[import] ", folder_.string(), ": ", tensor.name, " is in two files, the second being ", name.string()));
    }
  }
}

// The index names a file for every tensor; the files hold those tensors, and no others.
void HfWeights::check_index(const fs::path& index) {
  const Json json = read_json(index, kMaxIndexBytes);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    throw DataError(cat("[import] ", index.string(), " needs an object weight_map"));
  }
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>())) {
      throw DataError(cat("[import] ", index.string(), ": ", tensor, " must lie in a file of the same folder; got ",
                          file.dump().substr(0, 120)));
    }
    const std::string name = file.get<std::string>();
    if (!files_.contains(name)) open(name);
    const auto found = file_of_.find(tensor);
    if (found == file_of_.end() || found->second != &files_.at(name)) {
      throw DataError(cat("[import] ", index.string(), ": ", tensor, " is not in ", name));
    }
  }
  for (const auto& [tensor, file] : file_of_) {
    if (!map->contains(tensor)) throw DataError(cat("[import] ", index.string(), " does not name ", tensor));
  }
}

const TensorInfo* HfWeights::find(const std::string& tensor) const {
  const auto found = file_of_.find(tensor);
  return found == file_of_.end() ? nullptr : found->second->find(tensor);
}

std::span<const std::byte> HfWeights::bytes(const std::string& tensor) const {
  return file_of_.at(tensor)->bytes(tensor);
}

std::vector<std::string> HfWeights::names() const {
  std::vector<std::string> all;
  for (const auto& entry : file_of_) all.push_back(entry.first);
  return all;
}

}  // namespace norma
