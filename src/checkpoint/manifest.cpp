#include "norma/checkpoint/manifest.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "norma/base/error.h"

namespace norma {

namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMaxWorldSize = 1'000'000;
constexpr std::size_t kChecksumDigits = 32;
constexpr std::string_view kChecksumBefore = "\"manifest_checksum\": \"";
constexpr std::string_view kChecksumAfter = "\"}\n";
constexpr std::size_t kTailBytes = kChecksumBefore.size() + kChecksumDigits + kChecksumAfter.size();
constexpr const char* kKinds[] = {"weight", "exp_avg", "exp_avg_sq"};

[[noreturn]] void refuse(const std::string& where, const std::string& reason) {
  throw CheckpointError(cat("[", where, "] not a manifest that can be trusted: ", reason));
}

bool is_checksum(std::string_view text) {
  return text.size() == kChecksumDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Typed access to an object's members; every error names the file and the place in it.
class Reader {
 public:
  Reader(const Json& value, std::string where, std::string place)
      : value_(value), where_(std::move(where)), place_(std::move(place)) {}

  // Demands an object with exactly these members.
  void expect_members(const std::vector<std::string>& names) const {
    if (!value_.is_object()) fail("", "must be an object");
    for (const std::string& name : names) {
      if (!value_.contains(name)) fail("", cat("lacks \"", name, '"'));
    }
    for (const auto& [name, unused] : value_.items()) {
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        fail("", cat("has the unknown member \"", name.substr(0, 100), '"'));
      }
    }
  }

  std::string text(const char* name) const {
    const Json& member = value_[name];
    if (!member.is_string()) fail(name, "must be a text");
    return member.get<std::string>();
  }

  std::int64_t integer(const char* name, std::int64_t least, std::int64_t most) const {
    return to_integer(value_[name], name, least, most);
  }

  std::int64_t to_integer(const Json& member, const char* name, std::int64_t least, std::int64_t most) const {
    const bool too_large =
        member.is_number_unsigned() && member.get<std::uint64_t>() > static_cast<std::uint64_t>(kMost);
    const std::int64_t value = member.is_number_integer() && !too_large ? member.get<std::int64_t>() : -1;
    if (value < least || value > most) fail(name, cat("must be a whole number from ", least, " to ", most));
    return value;
  }

  const Json& list(const char* name) const {
    const Json& member = value_[name];
    if (!member.is_array()) fail(name, "must be a list");
    return member;
  }

  const Json& object(const char* name) const {
    const Json& member = value_[name];
    if (!member.is_object()) fail(name, "must be an object");
    return member;
  }

  [[noreturn]] void fail(const std::string& name, const std::string& reason) const {
    const std::string dot = place_.empty() || name.empty() ? "" : ".";
    const std::string path = place_ + dot + name;
    refuse(where_, (path.empty() ? "it" : path) + " " + reason);
  }

 private:
  const Json& value_;
  std::string where_;
  std::string place_;
};

FileEntry read_file_entry(const Json& json, const std::string& where, std::size_t index) {
  const Reader reader(json, where, cat("files[", index, "]"));
  reader.expect_members({"name", "bytes", "checksum"});
  FileEntry file{reader.text("name"), static_cast<std::uint64_t>(reader.integer("bytes", 0, kMost)),
                 reader.text("checksum")};
  if (!is_checksum(file.checksum)) reader.fail("checksum", "must be 32 hex digits");
  return file;
}

TensorKind read_kind(const Reader& reader) {
  const std::string text = reader.text("kind");
  for (int kind = 0; kind < 3; ++kind) {
    if (text == kKinds[kind]) return static_cast<TensorKind>(kind);
  }
  reader.fail("kind", "must be weight, exp_avg or exp_avg_sq");
}

TensorEntry read_tensor_entry(const Json& json, const std::string& where, std::size_t index) {
  const Reader reader(json, where, cat("tensors[", index, "]"));
  reader.expect_members({"name", "kind", "dtype", "shape", "ranges"});
  TensorEntry tensor;
  tensor.name = reader.text("name");
  tensor.kind = read_kind(reader);
  tensor.dtype = reader.text("dtype");
  if (reader.list("shape").size() > kMaxDimensions) {
    reader.fail("shape", cat("must have at most ", kMaxDimensions, " dimensions"));
  }
  for (const Json& size : reader.list("shape")) {
    tensor.shape.push_back(reader.to_integer(size, "shape", 1, kMost));
  }
  for (const Json& range : reader.list("ranges")) {
    if (!range.is_array() || range.size() != 3) reader.fail("ranges", "must be [file, begin, end] each");
    tensor.ranges.push_back({reader.to_integer(range[0], "ranges", 0, kMost),
                             reader.to_integer(range[1], "ranges", 0, kMost),
                             reader.to_integer(range[2], "ranges", 0, kMost)});
  }
  return tensor;
}

// What is wrong with a tensor's ranges, or "".
std::string problem_of_ranges(const TensorEntry& tensor, std::size_t num_files) {
  const auto numel = element_count(tensor.shape);
  if (!numel || *numel == 0) return "has an impossible shape";
  std::int64_t at = 0;
  std::unordered_set<std::int64_t> used;
  for (const TensorRange& range : tensor.ranges) {
    if (range.file < 0 || range.file >= static_cast<std::int64_t>(num_files)) {
      return cat("names file ", range.file, " of ", num_files);
    }
    if (!used.insert(range.file).second) return cat("has two ranges in file ", range.file);
    if (range.begin < at) return cat("has overlapping ranges at element ", range.begin);
    if (range.begin > at) return cat("has a gap at element ", at);
    if (range.end <= range.begin) return cat("has an empty range at element ", range.begin);
    at = range.end;
  }
  if (at != *numel) return cat("has ranges up to element ", at, " of ", *numel);
  return "";
}

// What is wrong with a manifest whose members have the right types, or "".
std::string problem_of(const Manifest& manifest) {
  if (manifest.step < 0 || manifest.tokens < 0) return "step and tokens must not be negative";
  if (manifest.world_size < 1 || manifest.world_size > kMaxWorldSize) {
    return cat("world_size must be from 1 to ", kMaxWorldSize, "; got ", manifest.world_size);
  }
  if (!manifest.data.is_object() || !manifest.trainer.is_object()) return "data and trainer must be objects";
  std::unordered_set<std::string> names;
  for (const FileEntry& file : manifest.files) {
    if (!is_plain_file_name(file.name)) return cat("'", file.name.substr(0, 100), "' is not a plain file name");
    if (!names.insert(file.name).second) return cat("file '", file.name, "' stands twice");
    if (!is_checksum(file.checksum)) return cat("file '", file.name, "' lacks its checksum");
  }
  names.clear();
  for (const TensorEntry& tensor : manifest.tensors) {
    const std::string name = stored_name(tensor);
    const std::string shown = "tensor '" + name.substr(0, 100) + "' ";
    if (tensor.name.empty()) return "a tensor has no name";
    if (!names.insert(name).second) return shown + "stands twice";
    if (dtype_bytes(tensor.dtype) == 0) return cat(shown, "has the unknown dtype '", tensor.dtype, "'");
    const std::string problem = problem_of_ranges(tensor, manifest.files.size());
    if (!problem.empty()) return shown + problem;
  }
  return "";
}

// A list with one entry per line, so that two manifests can be compared with diff.
std::string print_list(const char* name, const std::vector<Json>& entries) {
  std::string text = cat('"', name, "\": [");
  for (std::size_t i = 0; i < entries.size(); ++i) text += (i == 0 ? "\n " : ",\n ") + to_text(entries[i]);
  return text + "],\n";
}

}  // namespace

const TensorEntry* Manifest::find(std::string_view name, TensorKind kind) const {
  for (const TensorEntry& tensor : tensors) {
    if (tensor.kind == kind && tensor.name == name) return &tensor;
  }
  return nullptr;
}

std::string stored_name(const TensorEntry& tensor) {
  if (tensor.kind == TensorKind::weight) return tensor.name;
  return cat(kKinds[static_cast<int>(tensor.kind)], "/", tensor.name);
}

std::vector<std::int64_t> stored_shape(const TensorEntry& tensor, const TensorRange& range) {
  const bool whole = range.begin == 0 && range.end == element_count(tensor.shape);
  return whole ? tensor.shape : std::vector<std::int64_t>{range.end - range.begin};
}

bool is_plain_file_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !name.empty() && name.size() <= 200 && name.front() != '.' && name != kManifestName &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string print_manifest(const Manifest& manifest) {
  const std::string problem = problem_of(manifest);
  NORMA_CHECK(problem.empty(), "[manifest] ", problem);
  std::vector<Json> files, tensors;
  for (const FileEntry& file : manifest.files) {
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"checksum", file.checksum}});
  }
  for (const TensorEntry& tensor : manifest.tensors) {
    Json ranges = Json::array();
    for (const TensorRange& range : tensor.ranges) {
      ranges.push_back(Json::array({range.file, range.begin, range.end}));
    }
    tensors.push_back({{"name", tensor.name},
                       {"kind", kKinds[static_cast<int>(tensor.kind)]},
                       {"dtype", tensor.dtype},
                       {"shape", tensor.shape},
                       {"ranges", ranges}});
  }
  std::string text = cat("{\"version\": ", kManifestVersion, ",\n\"step\": ", manifest.step,
                         ",\n\"tokens\": ", manifest.tokens, ",\n\"world_size\": ", manifest.world_size, ",\n");
  text += print_list("files", files) + print_list("tensors", tensors);
  text += cat("\"config\": ", to_text(manifest.config), ",\n\"data\": ", to_text(manifest.data),
              ",\n\"trainer\": ", to_text(manifest.trainer), ",\n");
  return cat(text, kChecksumBefore, checksum(std::as_bytes(std::span(text))), kChecksumAfter);
}

Manifest parse_manifest(std::string_view text, const std::string& where) {
  if (text.size() < kTailBytes) refuse(where, "it is cut short");
  const std::string_view body = text.substr(0, text.size() - kTailBytes);
  const std::string tail = cat(kChecksumBefore, checksum(std::as_bytes(std::span(body))), kChecksumAfter);
  if (text.substr(body.size()) != tail) refuse(where, "its own checksum does not fit: it was cut or changed");
  try {
    return read_manifest(parse_json(text, where), where);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

Manifest read_manifest(const Json& json, const std::string& where) {
  if (json.is_object() && json.contains("version") && json["version"] != kManifestVersion) {
    refuse(where, cat("version ", to_text(json["version"]).substr(0, 40), " is unknown; this program reads version ",
                      kManifestVersion));
  }
  const Reader reader(json, where, "");
  reader.expect_members({"version", "step", "tokens", "world_size", "files", "tensors", "config", "data", "trainer",
                         "manifest_checksum"});
  Manifest manifest;
  manifest.step = reader.integer("step", 0, kMost);
  manifest.tokens = reader.integer("tokens", 0, kMost);
  manifest.world_size = reader.integer("world_size", 1, kMaxWorldSize);
  for (const Json& file : reader.list("files")) {
    manifest.files.push_back(read_file_entry(file, where, manifest.files.size()));
  }
  for (const Json& tensor : reader.list("tensors")) {
    manifest.tensors.push_back(read_tensor_entry(tensor, where, manifest.tensors.size()));
  }
  manifest.config = reader.text("config");
  manifest.data = reader.object("data");
  manifest.trainer = reader.object("trainer");
  const std::string problem = problem_of(manifest);
  if (!problem.empty()) refuse(where, problem);
  return manifest;
}

}  // namespace norma
