#include "norma/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>

#include "norma/base/error.h"
#include "norma/base/json.h"

namespace norma {

namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr int kHeaderDepth = 3;  // header, tensor, shape
constexpr const char* kMetadata = "__metadata__";

struct DtypeSize {
  std::string_view name;
  std::uint64_t bytes;
};

constexpr std::array<DtypeSize, 15> kDtypes = {{{"F64", 8},
                                                {"F32", 4},
                                                {"BF16", 2},
                                                {"F16", 2},
                                                {"I64", 8},
                                                {"I32", 4},
                                                {"I16", 2},
                                                {"I8", 1},
                                                {"U64", 8},
                                                {"U32", 4},
                                                {"U16", 2},
                                                {"U8", 1},
                                                {"BOOL", 1},
                                                {"F8_E4M3", 1},
                                                {"F8_E5M2", 1}}};

// A name short enough for a message: foreign names can be as long as the header.
std::string shown(const std::string& name) {
  return cat("'", std::string_view(name).substr(0, 100), name.size() <= 100 ? "'" : "...'");
}

[[noreturn]] void refuse(const std::string& where, const std::string& reason) {
  throw CheckpointError(cat("[", where, "] not a safetensors file that can be trusted: ", reason));
}

std::uint64_t read_length(std::span<const std::byte> file) {
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(file[i]);
  return length;
}

// The header's text. Its length is compared with the file's without an addition, which could overflow.
std::string_view header_text(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < kLengthBytes) {
    refuse(where, cat("a file of ", file.size(), " bytes has no room for the header's length"));
  }
  const std::uint64_t length = read_length(file);
  if (length > kMaxSafetensorsHeader) {
    refuse(where, cat("a header of ", length, " bytes is announced; at most ", kMaxSafetensorsHeader, " are allowed"));
  }
  if (length > file.size() - kLengthBytes) {
    refuse(where,
           cat("a header of ", length, " bytes is announced, but only ", file.size() - kLengthBytes, " bytes follow"));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') refuse(where, "the header must start with '{'");
  return text;
}

// A list of whole numbers from 0 to 2^63 - 1.
std::vector<std::int64_t> read_sizes(const Json& value, std::size_t most, const std::string& what,
                                     const std::string& where) {
  if (!value.is_array()) refuse(where, what + " must be a list");
  if (value.size() > most) {
    refuse(where, cat(what, " must have at most ", most, " entries; got ", value.size()));
  }
  std::vector<std::int64_t> sizes;
  for (const Json& size : value) {
    const bool fits = size.is_number_unsigned() &&
                      size.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!fits) refuse(where, what + " must hold whole numbers from 0 to 2^63 - 1");
    sizes.push_back(size.get<std::int64_t>());
  }
  return sizes;
}

TensorInfo read_tensor(const std::string& name, const Json& entry, const std::string& where) {
  const std::string what = "tensor " + shown(name);
  if (!entry.is_object()) refuse(where, what + " must be described by an object");
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!entry.contains(key)) refuse(where, cat(what, " lacks \"", key, '"'));
  }
  if (entry.size() != 3) refuse(where, what + " must have dtype, shape and data_offsets and nothing else");
  TensorInfo tensor;
  tensor.name = name;
  if (!entry["dtype"].is_string()) refuse(where, what + ": dtype must be a text");
  tensor.dtype = entry["dtype"].get<std::string>();
  const std::uint64_t item = dtype_bytes(tensor.dtype);
  if (item == 0) refuse(where, cat(what, " has the unknown dtype ", shown(tensor.dtype)));
  tensor.shape = read_sizes(entry["shape"], kMaxDimensions, what + ": shape", where);
  const auto offsets = read_sizes(entry["data_offsets"], 2, what + ": data_offsets", where);
  if (offsets.size() != 2) refuse(where, what + ": data_offsets must be a begin and an end");
  if (offsets[0] > offsets[1]) refuse(where, what + " ends before it begins");
  tensor.begin = static_cast<std::uint64_t>(offsets[0]);
  tensor.end = static_cast<std::uint64_t>(offsets[1]);
  const auto numel = element_count(tensor.shape);
  std::uint64_t bytes = 0;
  if (!numel || __builtin_mul_overflow(static_cast<std::uint64_t>(*numel), item, &bytes)) {
    refuse(where, what + " has a shape whose size overflows");
  }
  if (bytes != tensor.end - tensor.begin) {
    refuse(where,
           cat(what, " needs ", bytes, " bytes for its shape and dtype; its offsets span ", tensor.end - tensor.begin));
  }
  return tensor;
}

void read_metadata(const Json& value, StringPairs* metadata, const std::string& where) {
  if (!value.is_object()) refuse(where, "__metadata__ must be an object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) refuse(where, cat("__metadata__ ", shown(key), " must be a text"));
    metadata->emplace_back(key, text.get<std::string>());
  }
}

// Sorts by offset and demands that each tensor begins where the one before it ends.
void check_offsets(std::vector<TensorInfo>* tensors, std::uint64_t data_bytes, const std::string& where) {
  std::stable_sort(tensors->begin(), tensors->end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t at = 0;
  for (const TensorInfo& tensor : *tensors) {
    if (tensor.end > data_bytes) {
      refuse(where, cat("tensor ", shown(tensor.name), " ends at byte ", tensor.end, " of a data section of ",
                        data_bytes, " bytes"));
    }
    if (tensor.begin < at) refuse(where, cat("tensor ", shown(tensor.name), " overlaps the one before it"));
    if (tensor.begin > at) refuse(where, cat("there is a hole before tensor ", shown(tensor.name)));
    at = tensor.end;
  }
  if (at != data_bytes) {
    refuse(where, cat("the tensors end at byte ", at, " of a data section of ", data_bytes, " bytes"));
  }
}

std::string print_header(const std::vector<TensorInfo>& tensors, const StringPairs& metadata) {
  Json pairs = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) pairs[key] = value;
  std::string text = cat("{\"", kMetadata, "\":", pairs.dump());
  for (const TensorInfo& tensor : tensors) {
    const Json entry = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {tensor.begin, tensor.end}}};
    text += cat(',', Json(tensor.name).dump(), ':', entry.dump());
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data section starts aligned to 8 bytes
  NORMA_CHECK(text.size() <= kMaxSafetensorsHeader, "[safetensors] a header of ", text.size(), " bytes is too large");
  return text;
}

void set_offsets(std::vector<TensorInfo>* tensors) {
  std::unordered_map<std::string, bool> seen{{kMetadata, true}};
  std::uint64_t at = 0;
  for (TensorInfo& tensor : *tensors) {
    const auto numel = element_count(tensor.shape);
    const std::uint64_t item = dtype_bytes(tensor.dtype);
    NORMA_CHECK(seen.emplace(tensor.name, true).second, "[safetensors] '", tensor.name, "' stands twice");
    NORMA_CHECK(item > 0, "[safetensors] '", tensor.name, "' has the unknown dtype '", tensor.dtype, "'");
    NORMA_CHECK(numel && static_cast<std::uint64_t>(*numel) < (std::uint64_t{1} << 59), "[safetensors] '", tensor.name,
                "' has an impossible shape");
    tensor.begin = at;
    tensor.end = at += static_cast<std::uint64_t>(*numel) * item;
  }
}

MappedFile map_file(const fs::path& path) {
  try {
    return MappedFile(path);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace

std::uint64_t dtype_bytes(std::string_view dtype) {
  for (const DtypeSize& known : kDtypes) {
    if (known.name == dtype) return known.bytes;
  }
  return 0;
}

std::optional<std::int64_t> element_count(const std::vector<std::int64_t>& shape) {
  if (shape.size() > kMaxDimensions) return std::nullopt;
  std::int64_t numel = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(numel, size, &numel)) return std::nullopt;
  }
  return numel;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& where) {
  const std::string_view text = header_text(file, where);
  Json json;
  try {
    json = parse_json(text, where, kHeaderDepth);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
  SafetensorsHeader header;
  header.data_offset = kLengthBytes + text.size();
  for (const auto& [name, entry] : json.items()) {
    if (name == kMetadata) {
      read_metadata(entry, &header.metadata, where);
    } else {
      header.tensors.push_back(read_tensor(name, entry, where));
    }
  }
  check_offsets(&header.tensors, file.size() - header.data_offset, where);
  return header;
}

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : where_(path.string()), file_(map_file(path)), header_(parse_safetensors_header(file_.bytes(), where_)) {
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const TensorInfo* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr) throw CheckpointError(cat("[", where_, "] there is no tensor '", name, "'"));
  return file_.bytes().subspan(header_.data_offset + tensor->begin, tensor->end - tensor->begin);
}

SafetensorsWriter::SafetensorsWriter(const fs::path& path, std::vector<TensorInfo> tensors, const StringPairs& metadata)
    : path_(path), file_(path, OutputFile::Mode::truncate), tensors_(std::move(tensors)) {
  set_offsets(&tensors_);
  const std::string text = print_header(tensors_, metadata);
  std::array<std::byte, kLengthBytes> length;
  for (std::size_t i = 0; i < kLengthBytes; ++i) length[i] = static_cast<std::byte>(text.size() >> (8 * i));
  append(length);
  append(std::as_bytes(std::span(text)));
  skip_complete();
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  file_.write(bytes.data(), bytes.size());
  checksum_.update(bytes);
}

void SafetensorsWriter::skip_complete() {
  while (current_ < tensors_.size() && written_ == tensors_[current_].end) ++current_;
}

void SafetensorsWriter::write(const std::string& tensor, std::span<const std::byte> chunk) {
  if (chunk.empty()) return;
  NORMA_CHECK(current_ < tensors_.size(), "[", path_.string(), "] every tensor is written; got '", tensor, "'");
  const TensorInfo& expected = tensors_[current_];
  NORMA_CHECK(expected.name == tensor, "[", path_.string(), "] the next bytes belong to '", expected.name, "'; got '",
              tensor, "'");
  NORMA_CHECK(chunk.size() <= expected.end - written_, "[", path_.string(), "] '", tensor, "' has room for ",
              expected.end - written_, " bytes more; got ", chunk.size());
  append(chunk);
  written_ += chunk.size();
  skip_complete();
}

FileEntry SafetensorsWriter::close() {
  NORMA_CHECK(current_ == tensors_.size(), "[", path_.string(), "] '", tensors_[current_].name, "' is not complete");
  file_.close();
  return {path_.filename().string(), file_.bytes_written(), checksum_.digest()};
}

}  // namespace norma
