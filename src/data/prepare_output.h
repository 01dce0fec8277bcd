// The files prepare() writes: numbered token files with their sidecars, and the folder they are published
// into.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/data/prepare.h"
#include "norma/data/token_file.h"

namespace norma {

inline constexpr const char* kTokenizerName = "tokenizer.json";

// The numbered token files of one split and their sidecars, in a folder of their own until they are
// published.
class SplitWriter {
 public:
  SplitWriter(fs::path folder, Sidecar common, std::int64_t max_tokens)
      : folder_(std::move(folder)), common_(std::move(common)), max_tokens_(max_tokens) {}

  void append(std::span<const std::uint32_t> document) {
    const auto length = static_cast<std::int64_t>(document.size());
    if (file_ && current_.tokens + length > max_tokens_) close();
    if (!file_) open();
    for (const std::uint32_t id : document) {
      if (common_.dtype == TokenDtype::uint16)
        put(static_cast<std::uint16_t>(id));
      else
        put(id);
    }
    current_.tokens += length;
    ++current_.documents;
    tokens_ += length;
    ++documents_;
  }

  void close() {
    if (!file_) return;
    file_->write(buffer_);
    buffer_.clear();
    file_->close();
    file_.reset();
    const fs::path path = folder_ / names_.back();
    current_.checksum = checksum(MappedFile(path).bytes());
    OutputFile sidecar(sidecar_path(path), OutputFile::Mode::truncate);
    sidecar.write(to_json(current_));
    sidecar.close();
  }

  const std::vector<std::string>& names() const { return names_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{4} << 20;

  void open() {
    std::string number = std::to_string(names_.size());
    number.insert(0, number.size() < 5 ? 5 - number.size() : 0, '0');
    names_.push_back(cat(common_.split, "-", number, ".npy"));
    file_ = std::make_unique<OutputFile>(folder_ / names_.back(), OutputFile::Mode::truncate);
    current_ = common_;
  }

  template <class Id>
  void put(Id id) {
    buffer_.append(reinterpret_cast<const char*>(&id), sizeof(id));
    if (buffer_.size() < kBufferBytes) return;
    file_->write(buffer_);
    buffer_.clear();
  }

  fs::path folder_;
  Sidecar common_;
  std::int64_t max_tokens_;
  std::unique_ptr<OutputFile> file_;
  std::string buffer_;
  Sidecar current_;
  std::vector<std::string> names_;
  std::int64_t tokens_ = 0;
  std::int64_t documents_ = 0;
};

// train-00000.npy, validation-00017.npy.json: what an earlier prepare left in the folder.
inline bool is_own_name(std::string_view name) {
  if (name.ends_with(".json")) name.remove_suffix(5);
  if (!name.ends_with(".npy")) return false;
  name.remove_suffix(4);
  if (name.starts_with("train-"))
    name.remove_prefix(6);
  else if (name.starts_with("validation-"))
    name.remove_prefix(11);
  else
    return false;
  return name.size() >= 5 && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c); });
}

// The output folder: locked and checked first, filled under `.preparing`, published at the end.
class PrepareOutput {
 public:
  PrepareOutput(const PrepareOptions& options, const std::string& tokenizer_checksum)
      : folder_(options.output), staging_(folder_ / ".preparing") {
    if (fs::exists(folder_) && !fs::is_directory(folder_)) {
      throw ConfigError(cat("[prepare] the output must be a folder; got ", folder_.string(), ", which is a file"));
    }
    checked([&](std::error_code& error) { fs::create_directories(folder_, error); });
    lock_ = FileLock::take(folder_);
    if (!lock_) {
      throw ConfigError(cat("[prepare] another prepare is writing into ", folder_.string(),
                            ": let it finish or take another folder"));
    }
    find_earlier();
    if (!earlier_.empty() && !options.overwrite) {
      throw ConfigError(cat("[prepare] the output folder must not hold token files yet; got ",
                            earlier_.front().string(), ": take another folder or ask to overwrite"));
    }
    const fs::path tokenizer = folder_ / kTokenizerName;
    if (fs::exists(tokenizer) && !options.overwrite && checksum(MappedFile(tokenizer).bytes()) != tokenizer_checksum) {
      throw ConfigError(
          cat("[prepare] ", tokenizer.string(), " is another tokenizer: take another folder or ask to ", "overwrite"));
    }
    checked([&](std::error_code& error) { fs::remove_all(staging_, error); });
    checked([&](std::error_code& error) { fs::create_directory(staging_, error); });
  }
  ~PrepareOutput() {
    std::error_code ignored;  // what cannot be removed does not look like output, and the next call tries again
    fs::remove_all(staging_, ignored);
  }
  PrepareOutput(const PrepareOutput&) = delete;
  PrepareOutput& operator=(const PrepareOutput&) = delete;

  const fs::path& staging() const { return staging_; }

  // A token file counts only with its sidecar: old sidecars go first, new ones come last.
  std::vector<fs::path> publish(const std::vector<std::string>& names, std::string_view tokenizer) {
    for (const fs::path& path : earlier_) checked([&](std::error_code& error) { fs::remove(path, error); });
    write_file_atomic(folder_ / kTokenizerName, tokenizer);
    std::vector<fs::path> published;
    for (const std::string& name : names) {
      move(name);
      published.push_back(folder_ / name);
    }
    for (const std::string& name : names) move(sidecar_path(name));
    sync_folder(folder_);
    return published;
  }

 private:
  void find_earlier() {
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (is_own_name(entry.path().filename().string())) earlier_.push_back(entry.path());
    }
    std::sort(earlier_.begin(), earlier_.end());
    std::stable_partition(earlier_.begin(), earlier_.end(),
                          [](const fs::path& path) { return path.extension() == ".json"; });
  }

  void move(const fs::path& name) {
    checked([&](std::error_code& error) { fs::rename(staging_ / name, folder_ / name, error); });
  }

  template <class Action>
  void checked(Action action) const {
    std::error_code error;
    action(error);
    if (error) throw DiskError(cat("[prepare] cannot write to ", folder_.string(), ": ", error.message()));
  }

  fs::path folder_;
  fs::path staging_;
  std::optional<FileLock> lock_;
  std::vector<fs::path> earlier_;  // sidecars first
};

}  // namespace norma
