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
constexpr int kMaxDepth = 64;
constexpr std::size_t kChecksumDigits = 32;
constexpr std::string_view kChecksumBefore = "\"manifest_checksum\": \"";
constexpr std::string_view kChecksumAfter = "\"}\n";
constexpr std::size_t kTailBytes = kChecksumBefore.size() + kChecksumDigits + kChecksumAfter.size();
constexpr const char* kKinds[] = {"weight", "exp_avg", "exp_avg_sq"};

// The beginning of an error about a manifest that is damaged.
std::string untrusted(const std::string& where) {
  return cat("[", where, "] not a manifest that can be trusted");
}

[[noreturn]] void refuse(const std::string& where, const std::string& reason) {
  throw CheckpointError(cat(untrusted(where), ": ", reason));
}

bool is_checksum(std::string_view text) {
  return text.size() == kChecksumDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

FileEntry read_file_entry(const JsonObject& entry) {
  static const JsonObject::Names kKeys = {"name", "bytes", "checksum"};
  entry.refuse_unknown(kKeys);
  FileEntry file{entry.text("name"), static_cast<std::uint64_t>(entry.integer("bytes")), entry.text("checksum")};
  if (!is_checksum(file.checksum)) entry.fail_at("checksum", "must be 32 hex digits");
  return file;
}

TensorRange read_range(const Json& range, const JsonObject& entry) {
  const auto is_index = [](const Json& item) { return item.is_number_integer() && item >= 0 && item <= kMost; };
  if (!range.is_array() || range.size() != 3 || !std::ranges::all_of(range, is_index)) {
    entry.fail_at("ranges", "must hold [file, begin, end] each, whole numbers from 0");
  }
  return {range[0].get<std::int64_t>(), range[1].get<std::int64_t>(), range[2].get<std::int64_t>()};
}

TensorEntry read_tensor_entry(const JsonObject& entry) {
  static const JsonObject::Names kKeys = {"name", "kind", "dtype", "shape", "ranges"};
  static const JsonObject::Names kKindNames(std::begin(kKinds), std::end(kKinds));
  entry.refuse_unknown(kKeys);
  TensorEntry tensor;
  tensor.name = entry.text("name");
  const auto kind = std::ranges::find(kKindNames, entry.choice("kind", kKindNames));
  tensor.kind = static_cast<TensorKind>(kind - kKindNames.begin());
  tensor.dtype = entry.text("dtype");
  if (entry.list("shape").size() > kMaxDimensions) {
    entry.fail_at("shape", "must have at most ", kMaxDimensions, " dimensions");
  }
  tensor.shape = entry.integers("shape", {.least = 1});
  for (const Json& range : entry.list("ranges")) tensor.ranges.push_back(read_range(range, entry));
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
  return read_manifest(parse_json(text, where, kMaxDepth, ExitCode::checkpoint), where);
}

Manifest read_manifest(const Json& json, const std::string& where) {
  if (json.is_object() && json.contains("version") && json["version"] != kManifestVersion) {
    refuse(where, cat("version ", to_text(json["version"]).substr(0, 40), " is unknown; this program reads version ",
                      kManifestVersion));
  }
  static const JsonObject::Names kKeys = {"version", "step",   "tokens", "world_size", "files",
                                          "tensors", "config", "data",   "trainer",    "manifest_checksum"};
  const JsonObject object(json, untrusted(where), ExitCode::checkpoint);
  object.refuse_unknown(kKeys);
  for (const std::string& key : kKeys) object.at(key);
  Manifest manifest;
  manifest.step = object.integer("step");
  manifest.tokens = object.integer("tokens");
  manifest.world_size = object.integer("world_size", {1, kMaxWorldSize});
  for (const JsonObject& entry : object.objects("files")) manifest.files.push_back(read_file_entry(entry));
  for (const JsonObject& entry : object.objects("tensors")) manifest.tensors.push_back(read_tensor_entry(entry));
  manifest.config = object.text("config");
  manifest.data = object.object("data").value();
  manifest.trainer = object.object("trainer").value();
  const std::string problem = problem_of(manifest);
  if (!problem.empty()) refuse(where, problem);
  return manifest;
}

}  // namespace norma
