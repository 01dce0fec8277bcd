#include "norma/base/file.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <random>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <glob.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "norma/base/error.h"

namespace norma {

namespace {

// The reason of a system call that failed just now: errno must still hold it.
std::string failed(const char* action, const fs::path& path) {
  const int code = errno;
  return cat("[file] cannot ", action, " '", path.string(), "': ", std::generic_category().message(code));
}

// Closes a file descriptor when the block ends.
struct Descriptor {
  int value = -1;
  explicit Descriptor(int descriptor) : value(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

// Opens a regular file for reading and tells its size. O_NONBLOCK keeps a named pipe from blocking the open.
int open_regular(const fs::path& path, std::uint64_t* size) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.value < 0) throw DataError(failed("open", path));
  struct stat info {};
  if (::fstat(file.value, &info) != 0) throw DataError(failed("look at", path));
  if (!S_ISREG(info.st_mode)) {
    throw DataError(cat("[file] '", path.string(), "' must be a regular file; got a folder or a device"));
  }
  *size = static_cast<std::uint64_t>(info.st_size);
  return std::exchange(file.value, -1);
}

void write_all(int descriptor, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw DiskError(failed("write to", path));
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::string to_hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string out;
  for (const unsigned char digit : canonical.digest) {
    out += "0123456789abcdef"[digit >> 4];
    out += "0123456789abcdef"[digit & 15];
  }
  return out;
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  std::uint64_t size = 0;
  const Descriptor file(open_regular(path, &size));
  const auto refuse = [&](std::uint64_t got) {
    throw DataError(cat("[file] '", path.string(), "' is too large: got ", got, " bytes or more; at most ", max_bytes,
                        " are allowed"));
  };
  if (size > max_bytes) refuse(size);
  std::string bytes;
  bytes.reserve(size);
  char buffer[1 << 16];
  while (true) {  // until the end, whatever size was announced: the file may still grow
    const ssize_t got = ::read(file.value, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataError(failed("read", path));
    if (got == 0) return bytes;
    if (static_cast<std::uint64_t>(got) > max_bytes - bytes.size()) refuse(max_bytes + 1);
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  std::error_code missing;
  if (fs::exists(path, missing) && !fs::is_regular_file(path)) {
    throw DiskError(cat("[file] cannot replace '", path.string(), "': it is not a regular file"));
  }
  const fs::path temporary = temporary_beside(path);
  try {
    OutputFile file(temporary, OutputFile::Mode::truncate);
    file.write(bytes);
    file.close();
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw DiskError(failed("rename a new file to", path));
  } catch (const DiskError&) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(parent_of(path));
}

fs::path temporary_beside(const fs::path& path) {
  std::random_device random;
  return without_slash(path) += cat(kTemporaryMark, std::hex, random(), "-", random());
}

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

StagedPath::StagedPath(const fs::path& target, std::string room)
    : target_(without_slash(target)), path_(temporary_beside(target)), room_(std::move(room)) {}

StagedPath::~StagedPath() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void StagedPath::make_folder() const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) throw DiskError(cat("[", room_, "] cannot make the folder ", path_.string(), ": ", error.message()));
}

void StagedPath::publish() {
  std::error_code error;
  fs::rename(path_, target_, error);
  if (error) throw DiskError(cat("[", room_, "] cannot put ", target_.string(), " in place: ", error.message()));
  sync_folder(parent_of(target_));
}

std::optional<FileLock> FileLock::take(const fs::path& path) {
  std::error_code unknown;
  const int flags = fs::is_directory(path, unknown) ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT;
  Descriptor file(::open(path.c_str(), flags | O_CLOEXEC, 0644));
  if (file.value < 0) throw DiskError(failed("open", path));
  if (::flock(file.value, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return std::nullopt;
  return FileLock(std::exchange(file.value, -1));
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void sync_folder(const fs::path& folder) {
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.value < 0) throw DiskError(failed("open the folder", folder));
  // Some network file systems know no fsync of a folder and answer EINVAL: there is nothing more to do then.
  if (::fsync(opened.value) != 0 && errno != EINVAL) throw DiskError(failed("sync the folder", folder));
}

OutputFile::OutputFile(const fs::path& path, Mode mode) : path_(path) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (mode == Mode::append ? O_APPEND : O_TRUNC);
  descriptor_ = ::open(path.c_str(), flags, 0644);
  if (descriptor_ < 0) throw DiskError(failed("open for writing", path));
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::write(std::string_view bytes) {
  NORMA_CHECK(descriptor_ >= 0, "[file] '", path_.string(), "' is closed already");
  write_all(descriptor_, bytes, path_);
  bytes_written_ += bytes.size();
}

void OutputFile::close() {
  if (descriptor_ < 0) return;
  const Descriptor file(std::exchange(descriptor_, -1));
  // EINVAL: a device such as /dev/null that knows no fsync.
  if (::fsync(file.value) != 0 && errno != EINVAL) throw DiskError(failed("sync", path_));
}

MappedFile::MappedFile(const fs::path& path) {
  std::uint64_t size = 0;
  const Descriptor file(open_regular(path, &size));
  if (size == 0) return;
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.value, 0);
  if (mapped == MAP_FAILED) throw DataError(failed("map", path));
  data_ = static_cast<const std::byte*>(mapped);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::vector<std::string> expand_glob(const std::string& pattern) {
  std::error_code unreadable;
  if (pattern.find_first_of("*?[") == std::string::npos || fs::exists(pattern, unreadable)) return {pattern};
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> paths;
  if (result == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (result != 0 && result != GLOB_NOMATCH) {
    throw DataError(cat("[file] cannot list the files that match '", pattern, "'"));
  }
  std::sort(paths.begin(), paths.end());  // by bytes: the same order under every locale
  return paths;
}

std::string checksum(std::span<const std::byte> bytes) {
  return to_hex(XXH3_128bits(bytes.data(), bytes.size()));
}

struct RunningChecksum::State {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> hash{XXH3_createState()};
};

RunningChecksum::RunningChecksum() : state_(std::make_unique<State>()) {
  if (!state_->hash) throw std::bad_alloc();
  XXH3_128bits_reset(state_->hash.get());
}

RunningChecksum::~RunningChecksum() = default;

void RunningChecksum::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->hash.get(), bytes.data(), bytes.size());
}

std::string RunningChecksum::digest() const {
  return to_hex(XXH3_128bits_digest(state_->hash.get()));
}

}  // namespace norma
