// Safetensors files: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes without
// holes. Nothing here knows LibTorch, so the parser can be fuzzed alone.
//
// Source: the format's description, https://huggingface.co/docs/safetensors. The reader is stricter where the
// description leaves room; see parse_safetensors_header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "norma/base/file.h"

namespace norma {

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, the reference's own limit
inline constexpr std::size_t kMaxDimensions = 16;

struct TensorInfo {
  std::string name;
  std::string dtype;                // "F32", "BF16", ...: see dtype_bytes
  std::vector<std::int64_t> shape;  // row-major; empty for a scalar
  std::uint64_t begin = 0;          // bytes [begin, end) of the data section, which follows the header
  std::uint64_t end = 0;
};

using StringPairs = std::vector<std::pair<std::string, std::string>>;

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes
  StringPairs metadata;             // "__metadata__"
  std::uint64_t data_offset = 0;    // where the data section starts in the file
};

// Bytes of one element; 0 when the name is not a dtype of the format that has whole bytes.
std::uint64_t dtype_bytes(std::string_view dtype);

// Product of the sizes; nullopt when there are too many dimensions, a size is negative, or the product does
// not fit 63 bits.
std::optional<std::int64_t> element_count(const std::vector<std::int64_t>& shape);

// Reads and checks the header of a whole file. Throws CheckpointError, naming `where`, the tensor and the
// reason, unless: the header fits the file and kMaxSafetensorsHeader, starts with '{' and is JSON without
// repeated keys; every dtype is known; shapes have at most kMaxDimensions and their bytes neither overflow nor
// differ from end - begin; and the tensors fill the data section from its first byte to its last, in some
// order, without overlaps or holes. A tensor without elements is allowed only on the border between two
// others.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& where);

// A file mapped read-only, its header checked. Throws CheckpointError.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const fs::path& path);

  const SafetensorsHeader& header() const { return header_; }
  const TensorInfo* find(const std::string& name) const;  // nullptr when there is none
  // The tensor's bytes, valid as long as this object; not aligned. Throws CheckpointError for an unknown
  // name.
  std::span<const std::byte> bytes(const std::string& name) const;

 private:
  std::string where_;
  MappedFile file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, std::size_t> index_;
};

// What a manifest says about a file.
struct FileEntry {
  std::string name;  // plain, within the checkpoint's folder
  std::uint64_t bytes = 0;
  std::string checksum;  // as checksum() in base/file.h
  bool operator==(const FileEntry&) const = default;
};

// Writes a file tensor by tensor, hashing as it goes, so that no tensor needs to be in memory as a whole.
class SafetensorsWriter {
 public:
  // The tensors in the order in which they will come; begin and end are set here. `metadata` is written after
  // "format": "pt". Throws DiskError.
  SafetensorsWriter(const fs::path& path, std::vector<TensorInfo> tensors, const StringPairs& metadata = {});

  // The next bytes of `tensor`, in as many calls as the caller likes. A tensor out of turn, or more bytes
  // than its shape holds, is a CheckFailure. Throws DiskError.
  void write(const std::string& tensor, std::span<const std::byte> chunk);

  // Checks that every tensor is complete and fsyncs. The entry carries the file's plain name.
  FileEntry close();

 private:
  void append(std::span<const std::byte> bytes);
  void skip_complete();

  fs::path path_;
  OutputFile file_;
  RunningChecksum checksum_;
  std::vector<TensorInfo> tensors_;
  std::size_t current_ = 0;    // index of the tensor being written
  std::uint64_t written_ = 0;  // bytes of the data section so far
};

}  // namespace norma
