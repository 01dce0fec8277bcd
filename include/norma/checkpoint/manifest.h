// manifest.json of a checkpoint: which files belong to it, and where every tensor's elements lie in them.
//
//   {"version": 1, "step": .., "tokens": .., "world_size": ..,
//    "files":   [{"name": "model.safetensors", "bytes": .., "checksum": ".."}, ..],
//    "tensors": [{"name": "head.weight", "kind": "weight", "dtype": "F32", "shape": [..],
//                 "ranges": [[index of the file, begin, end], ..]}, ..],
//    "config": "the resolved config as YAML", "data": {..}, "trainer": {..},
//    "manifest_checksum": "of every byte before this line"}
//
// A range counts elements of the whole tensor in row-major order. In its file it is a tensor named stored_name(), with
// the tensor's own shape when the range is the whole tensor, else 1-D with end - begin elements. So the model file of a
// one-rank checkpoint is an ordinary safetensors file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/json.h"
#include "norma/checkpoint/safetensors.h"

namespace norma {

inline constexpr int kManifestVersion = 1;
inline constexpr std::uint64_t kMaxManifestBytes = 512'000'000;
inline constexpr std::string_view kManifestName = "manifest.json";

enum class TensorKind { weight, exp_avg, exp_avg_sq };

struct TensorRange {
  std::int64_t file = 0;  // index into Manifest::files
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool operator==(const TensorRange&) const = default;
};

struct TensorEntry {
  std::string name;
  TensorKind kind = TensorKind::weight;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<TensorRange> ranges;  // sorted by begin; they cover the tensor without gap or overlap
  bool operator==(const TensorEntry&) const = default;
};

struct Manifest {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  // seen so far
  std::int64_t world_size = 1;
  std::vector<FileEntry> files;
  std::vector<TensorEntry> tensors;
  std::string config;             // the resolved config as YAML text
  Json data = Json::object();     // position and fingerprint of the data. JSON keeps no nan and no inf.
  Json trainer = Json::object();  // whatever else the trainer needs to go on
  bool operator==(const Manifest&) const = default;
};

// "head.weight", "exp_avg/head.weight", "exp_avg_sq/head.weight".
std::string stored_name(const TensorEntry& tensor);

// The shape under which the range is stored.
std::vector<std::int64_t> stored_shape(const TensorEntry& tensor, const TensorRange& range);

// Whether a file of a checkpoint may have this name: letters, digits, '.', '_', '-'; no leading dot, not
// manifest.json.
bool is_plain_file_name(std::string_view name);

// The manifest's text. A manifest that parse_manifest would refuse is a CheckFailure.
std::string print_manifest(const Manifest& manifest);

// Reads the text, its checksum included. Throws CheckpointError naming `where` and the reason.
Manifest parse_manifest(std::string_view text, const std::string& where);

// Reads the JSON value, without its checksum: every count, name, range and index is checked.
Manifest read_manifest(const Json& json, const std::string& where);

}  // namespace norma
