#include "prepare_output.h"

#include <algorithm>
#include <cctype>
#include <system_error>
#include <utility>

#include "norma/base/error.h"
#include "norma/data/tokenizer.h"

namespace norma {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{4} << 20;

// train-00000.npy, validation-00017.npy.json: what an earlier prepare left in the folder.
bool is_own_name(std::string_view name) {
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

}  // namespace

SplitWriter::SplitWriter(fs::path folder, Sidecar common, std::int64_t max_tokens)
    : folder_(std::move(folder)), common_(std::move(common)), max_tokens_(max_tokens) {}

void SplitWriter::open() {
  std::string number = std::to_string(names_.size());
  number.insert(0, number.size() < 5 ? 5 - number.size() : 0, '0');
  names_.push_back(cat(common_.split, "-", number, ".npy"));
  file_ = std::make_unique<OutputFile>(folder_ / names_.back(), OutputFile::Mode::truncate);
  current_ = common_;
}

template <class Id>
void SplitWriter::put(Id id) {
  buffer_.append(reinterpret_cast<const char*>(&id), sizeof(id));
  if (buffer_.size() < kBufferBytes) return;
  file_->write(buffer_);
  buffer_.clear();
}

void SplitWriter::append(std::span<const std::uint32_t> document) {
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

void SplitWriter::close() {
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

template <class Action>
void PrepareOutput::checked(Action action) const {
  std::error_code error;
  action(error);
  if (error) throw DiskError(cat("[prepare] cannot write to ", folder_.string(), ": ", error.message()));
}

PrepareOutput::PrepareOutput(const PrepareOptions& options, const std::string& tokenizer_checksum)
    : folder_(options.output), staging_(folder_ / ".preparing") {
  if (fs::exists(folder_) && !fs::is_directory(folder_)) {
    throw ConfigError(cat("[prepare] the output must be a folder; got ", folder_.string(), ", which is a file"));
  }
  checked([&](std::error_code& error) { fs::create_directories(folder_, error); });
  lock();
  find_earlier();
  if (!options.overwrite) refuse_other_output(tokenizer_checksum);
  checked([&](std::error_code& error) { fs::remove_all(staging_, error); });
  checked([&](std::error_code& error) { fs::create_directory(staging_, error); });
}

PrepareOutput::~PrepareOutput() {
  std::error_code ignored;  // what cannot be removed does not look like output, and the next call tries again
  fs::remove_all(staging_, ignored);
}

void PrepareOutput::lock() {
  lock_ = FileLock::take(folder_);
  if (lock_) return;
  throw ConfigError(
      cat("[prepare] another prepare is writing into ", folder_.string(), ": let it finish or take another folder"));
}

void PrepareOutput::refuse_other_output(const std::string& tokenizer_checksum) const {
  if (!earlier_.empty()) {
    throw ConfigError(cat("[prepare] the output folder must not hold token files yet; got ", earlier_.front().string(),
                          ": take another folder or ask to overwrite"));
  }
  const fs::path tokenizer = folder_ / kTokenizerFile;
  if (!fs::exists(tokenizer) || checksum(MappedFile(tokenizer).bytes()) == tokenizer_checksum) return;
  throw ConfigError(
      cat("[prepare] ", tokenizer.string(), " is another tokenizer: take another folder or ask to overwrite"));
}

std::vector<fs::path> PrepareOutput::publish(const std::vector<std::string>& names, std::string_view tokenizer) {
  for (const fs::path& path : earlier_) checked([&](std::error_code& error) { fs::remove(path, error); });
  write_file_atomic(folder_ / kTokenizerFile, tokenizer);
  std::vector<fs::path> published;
  for (const std::string& name : names) {
    move(name);
    published.push_back(folder_ / name);
  }
  for (const std::string& name : names) move(sidecar_path(name));
  sync_folder(folder_);
  return published;
}

void PrepareOutput::find_earlier() {
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (is_own_name(entry.path().filename().string())) earlier_.push_back(entry.path());
  }
  std::sort(earlier_.begin(), earlier_.end());
  std::stable_partition(earlier_.begin(), earlier_.end(),
                        [](const fs::path& path) { return path.extension() == ".json"; });
}

void PrepareOutput::move(const fs::path& name) {
  checked([&](std::error_code& error) { fs::rename(staging_ / name, folder_ / name, error); });
}

}  // namespace norma
