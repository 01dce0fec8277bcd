#include "task_data.h"

#include "norma/data/text_reader.h"

namespace norma {

namespace {

constexpr const char* kRemedy = "; scripts/fetch_eval_data.sh [--out DIR] lays the data out";
constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{16} << 20;
constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;    // on disk
constexpr std::uint64_t kMaxTextBytes = std::uint64_t{4} << 30;  // of all lines of a file
constexpr std::uint64_t kMaxLineBytes = std::uint64_t{4} << 20;
constexpr int kMaxDepth = 16;

// A path that stays inside of the folder.
bool is_inner_path(const std::string& path) {
  if (path.empty() || path.front() == '/' || path.find_first_of(std::string_view("\\\0", 2)) != std::string::npos) {
    return false;
  }
  for (const std::string& part : split(path, '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

// The path without the suffix of JSON lines, or "" when it has none.
std::string without_suffix(const std::string& path) {
  for (const std::string_view suffix : {".jsonl", ".jsonl.gz", ".jsonl.zst"}) {
    if (path.ends_with(suffix)) return path.substr(0, path.size() - suffix.size());
  }
  return "";
}

}  // namespace

TaskData::TaskData(fs::path folder) : folder_(std::move(folder)) {
  const fs::path path = folder_ / "index.json";
  if (!fs::exists(path)) {
    throw DataError(
        cat("[eval] the folder of evaluation data must hold index.json; ", path.string(), " does not exist", kRemedy));
  }
  const Json content = read_json(path, kMaxIndexBytes, kMaxDepth);
  const JsonObject index(content, cat("[eval] ", path.string()));
  index.integer("format", {1, 1});
  for (const JsonObject& entry : index.objects("files")) add(entry);
}

void TaskData::add(const JsonObject& entry) {
  File file{.path = entry.text("path"),
            .bytes = static_cast<std::uint64_t>(entry.integer("bytes", {0, kMaxFileBytes})),
            .lines = entry.integer("lines", {0, kMaxLines}),
            .checksum = entry.text("checksum")};
  if (!is_inner_path(file.path)) {
    entry.fail_at("path", "must name a file inside of the folder; got '", file.path, "'");
  }
  const std::string name = without_suffix(file.path);
  if (name.empty()) entry.fail_at("path", "must end in .jsonl, .jsonl.gz or .jsonl.zst; got '", file.path, "'");
  if (!files_.emplace(name, std::move(file)).second) entry.fail_at("path", "names '", name, "' a second time");
}

const TaskData::File& TaskData::verified(const std::string& name) const {
  const auto found = files_.find(name);
  if (found == files_.end()) {
    throw DataError(
        cat("[eval] ", (folder_ / "index.json").string(), " must list ", name, ".jsonl.gz; it does not", kRemedy));
  }
  const File& file = found->second;
  const fs::path path = folder_ / file.path;
  if (!fs::is_regular_file(path)) throw DataError(cat("[eval] ", path.string(), " must be a file", kRemedy));
  const MappedFile content(path);
  if (content.bytes().size() != file.bytes || checksum(content.bytes()) != file.checksum) {
    throw DataError(cat("[eval] ", path.string(), " must be the file of index.json: ", file.bytes, " bytes, checksum ",
                        file.checksum, "; got ", content.bytes().size(), " bytes, checksum ", checksum(content.bytes()),
                        kRemedy));
  }
  return file;
}

void TaskData::read(const std::string& name, const std::function<void(const JsonObject&)>& take) const {
  const File& file = verified(name);
  TextReader reader({folder_ / file.path}, kMaxLineBytes);
  std::int64_t lines = 0;
  std::uint64_t bytes = 0;
  for (RawDocument line; reader.next(line);) {
    bytes += line.bytes.size();
    if (++lines > file.lines || bytes > kMaxTextBytes) break;
    const Json content = parse_json(line.bytes, line.where(), kMaxDepth);
    take(JsonObject(content, cat("[eval] ", line.where())));
  }
  if (lines != file.lines || bytes > kMaxTextBytes) {
    throw DataError(cat("[eval] ", (folder_ / file.path).string(), " must have ", file.lines, " lines and at most ",
                        kMaxTextBytes, " bytes of text; got ", lines > file.lines ? "more" : cat(lines, " lines")));
  }
}

}  // namespace norma
