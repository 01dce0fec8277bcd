// Bytes of a file, decompressed as they are asked for. Several gzip members or zstd frames in a row read as one text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "norma/base/file.h"

namespace norma {

enum class Packing { none, gzip, zstd };

// Every member throws DataError naming the file: it cannot be read, or its compressed data is damaged or cut off.
class ByteSource {
 public:
  static std::unique_ptr<ByteSource> open(const fs::path& path, Packing packing);
  virtual ~ByteSource() = default;
  virtual std::size_t read(char* out, std::size_t size) = 0;  // 0 at the end
  virtual std::uint64_t bytes_read() const = 0;               // from the disk
};

}  // namespace norma
