// Files: bounded reads, atomic writes, read-only maps, globs. Every error names the path and the system's
// reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace norma {

namespace fs = std::filesystem;

// The whole file as bytes. Throws DataError when it is missing, not a regular file, or larger than max_bytes.
std::string read_file(const fs::path& path, std::uint64_t max_bytes);

// Writes to a temporary name beside `path`, fsyncs, renames over `path`, fsyncs the folder. DiskError on
// failure: then `path` is as it was.
void write_file_atomic(const fs::path& path, std::string_view bytes);

// fsync of a folder, so that a rename inside it survives a crash.
void sync_folder(const fs::path& folder);

// A file opened for writing whose every write is checked. close() fsyncs; the destructor closes without.
class OutputFile {
 public:
  enum class Mode { truncate, append };
  OutputFile(const fs::path& path, Mode mode);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view bytes);
  void write(const void* data, std::size_t bytes) { write({static_cast<const char*>(data), bytes}); }
  void close();
  std::uint64_t bytes_written() const { return bytes_written_; }

 private:
  fs::path path_;
  int descriptor_ = -1;
  std::uint64_t bytes_written_ = 0;
};

// A file mapped read-only for its lifetime. Empty files map to an empty span.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Paths that match a shell pattern (*, ?, [..]), sorted; a name without wildcards, or of something that exists, is
// returned as it is.
std::vector<std::string> expand_glob(const std::string& pattern);

// XXH3-128 of bytes, as 32 lower-case hex digits: integrity, not security.
std::string checksum(std::span<const std::byte> bytes);

// The same checksum of bytes that come in pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  ~RunningChecksum();

  void update(std::span<const std::byte> bytes);
  std::string digest() const;  // of everything so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace norma
