// Files: bounded reads, atomic writes, read-only maps, locks, globs, checksums. Every error names the path and the
// system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace norma {

namespace fs = std::filesystem;

// The whole file as bytes. Throws DataError when it is missing, not a regular file, or larger than max_bytes.
std::string read_file(const fs::path& path, std::uint64_t max_bytes);

// Writes to a temporary name beside `path`, fsyncs, renames over `path`, fsyncs the folder. Throws DiskError, and
// leaves `path` as it was, when that fails or when `path` is a folder, a device or a pipe.
void write_file_atomic(const fs::path& path, std::string_view bytes);

// Calls fsync on a folder, so that a rename inside of it survives a crash.
void sync_folder(const fs::path& folder);

// A file opened for writing; every write is checked. close() calls fsync, the destructor closes without it.
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

// A temporary name: the name of the file or folder that it will become, this mark, and random digits.
inline constexpr std::string_view kTemporaryMark = ".tmp-";
fs::path temporary_beside(const fs::path& path);

// "runs/a" for both "runs/a/" and "runs/a".
fs::path without_slash(const fs::path& path);

// A file or a folder under a temporary name until it is complete.
class StagedPath {
 public:
  // `room` names the caller in errors. Nothing is made yet.
  StagedPath(const fs::path& target, std::string room);
  ~StagedPath();  // removes what was not published
  StagedPath(const StagedPath&) = delete;
  StagedPath& operator=(const StagedPath&) = delete;

  const fs::path& path() const { return path_; }  // beside the target
  // Makes path() a folder, and the folders above it. Throws DiskError.
  void make_folder() const;
  // Renames path() to the target, which may be a file already or, for a folder, an empty folder. Throws DiskError.
  void publish();

 private:
  fs::path target_, path_;
  std::string room_;
};

// The lock of a file or folder: one process at a time holds it, until its FileLock is destroyed or the process ends.
class FileLock {
 public:
  // Locks a folder that exists, or a file, which is made when it is missing. Returns nullopt when another process holds
  // the lock. On a file system that knows no locks everyone gets one. Throws DiskError when `path` cannot be opened.
  static std::optional<FileLock> take(const fs::path& path);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
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

// The paths that match a shell pattern (*, ?, [..]), sorted. A name without wildcards, or one that exists, is returned
// as it is.
std::vector<std::string> expand_glob(const std::string& pattern);

// XXH3-128 of the bytes as 32 lower-case hex digits. It shows damage; it does not protect against an attacker.
std::string checksum(std::span<const std::byte> bytes);

// The same checksum for bytes that come in pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  ~RunningChecksum();

  void update(std::span<const std::byte> bytes);
  std::string digest() const;  // the checksum of everything so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace norma
