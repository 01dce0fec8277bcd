#include "byte_source.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <zlib.h>
#include <zstd.h>

#include "norma/base/error.h"

namespace norma {
namespace {

// The file as it lies on disk.
class RawFile {
 public:
  explicit RawFile(const fs::path& path) : path_(path.string()), file_(std::fopen(path_.c_str(), "rb"), &std::fclose) {
    if (!file_) throw DataError(cat("[text] ", path_, " cannot be opened: ", std::strerror(errno)));
  }

  // 0 at the end.
  std::size_t read(char* out, std::size_t size) {
    const std::size_t got = std::fread(out, 1, size, file_.get());
    if (got < size && std::ferror(file_.get()) != 0) {
      throw DataError(cat("[text] ", path_, " cannot be read: ", std::strerror(errno)));
    }
    bytes_read_ += got;
    return got;
  }

  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::uint64_t bytes_read_ = 0;
};

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(const fs::path& path) : file_(path) {}
  std::size_t read(char* out, std::size_t size) override { return file_.read(out, size); }
  std::uint64_t bytes_read() const override { return file_.bytes_read(); }

 private:
  RawFile file_;
};

// Compressed input in a buffer of fixed size.
class PackedInput {
 public:
  explicit PackedInput(const fs::path& path) : file_(path), buffer_(std::size_t{256} << 10) {}

  std::uint64_t bytes_read() const { return file_.bytes_read(); }

  // Bytes at hand; reads on when there are none. 0 at the end of the file.
  std::size_t available() {
    if (begin_ == end_) {
      begin_ = 0;
      end_ = file_.read(buffer_.data(), buffer_.size());
    }
    return end_ - begin_;
  }
  char* data() { return buffer_.data() + begin_; }
  void consume(std::size_t bytes) { begin_ += bytes; }

 private:
  RawFile file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(const fs::path& path) : input_(path), name_(path.string()) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK)
      throw Error(ExitCode::memory, "[text] no memory for zlib");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t read(char* out, std::size_t size) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out == size) {
      if (!inside_member_ && !start_member()) return 0;
      inflate_some();
    }
    return size - stream_.avail_out;
  }
  std::uint64_t bytes_read() const override { return input_.bytes_read(); }

 private:
  // Zero bytes between and after members are padding, as gzip itself reads them.
  bool start_member() {
    while (members_ > 0 && input_.available() > 0 && *input_.data() == '\0') input_.consume(1);
    if (input_.available() == 0 && members_ > 0) return false;
    if (members_++ > 0 && inflateReset(&stream_) != Z_OK) fail("cannot be decompressed");
    inside_member_ = true;
    return true;
  }

  void inflate_some() {
    const std::size_t available = input_.available();
    if (available == 0) fail("ends inside of a gzip member: the file is cut off");
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(available);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input_.consume(available - stream_.avail_in);
    if (result == Z_STREAM_END) {
      inside_member_ = false;
    } else if (result != Z_OK) {
      fail(cat("is not valid gzip: ", stream_.msg != nullptr ? stream_.msg : "damaged data"));
    }
  }

  [[noreturn]] void fail(const std::string& what) const { throw DataError(cat("[text] ", name_, " ", what)); }

  PackedInput input_;
  std::string name_;
  z_stream stream_{};
  int members_ = 0;
  bool inside_member_ = false;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(const fs::path& path)
      : input_(path), name_(path.string()), stream_(ZSTD_createDStream(), &ZSTD_freeDStream) {
    if (!stream_) throw Error(ExitCode::memory, "[text] no memory for zstd");
  }

  // Windows beyond zstd's default limit of 128 MiB are refused by the library itself.
  std::size_t read(char* out, std::size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      // After the input's last byte the decoder may still hold output of the frame it is in.
      const std::size_t available = input_.available();
      if (available == 0 && !inside_frame_) return 0;
      ZSTD_inBuffer input{input_.data(), available, 0};
      const std::size_t hint = ZSTD_decompressStream(stream_.get(), &output, &input);
      if (ZSTD_isError(hint) != 0) fail(cat("is not valid zstd: ", ZSTD_getErrorName(hint)));
      input_.consume(input.pos);
      inside_frame_ = hint != 0;
      if (available == 0 && output.pos == 0 && inside_frame_) fail("ends inside of a zstd frame: the file is cut off");
    }
    return output.pos;
  }
  std::uint64_t bytes_read() const override { return input_.bytes_read(); }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw DataError(cat("[text] ", name_, " ", what)); }

  PackedInput input_;
  std::string name_;
  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_;
  bool inside_frame_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> ByteSource::open(const fs::path& path, Packing packing) {
  if (packing == Packing::gzip) return std::make_unique<GzipSource>(path);
  if (packing == Packing::zstd) return std::make_unique<ZstdSource>(path);
  return std::make_unique<PlainSource>(path);
}

}  // namespace norma
