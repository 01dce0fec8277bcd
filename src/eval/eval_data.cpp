#include "eval_data.h"

#include <charconv>

#include "norma/data/text_reader.h"

namespace norma {

namespace {

constexpr const char* kRemedy = "; scripts/fetch_eval_data.sh [--out DIR] lays the data out";
constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 30;  // on disk
constexpr std::uint64_t kMaxTextBytes = std::uint64_t{4} << 30;  // of all lines of a file
constexpr std::uint64_t kMaxLineBytes = std::uint64_t{4} << 20;
constexpr std::int64_t kMaxLines = 10'000'000;
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

Row::Row(const Json& value, std::string where, std::string path)
    : value_(&value), where_(std::move(where)), path_(std::move(path)) {
  if (!value.is_object()) {
    fail(path_.empty() ? "the line" : cat("'", path_.substr(0, path_.size() - 1), "'"), " must be an object; got ",
         value.type_name());
  }
}

const Json& Row::at(const char* key) const {
  const auto found = value_->find(key);
  if (found == value_->end()) fail_at(key, "must be there; it is missing");
  return *found;
}

Row Row::object(const char* key) const {
  return {at(key), where_, cat(path_, key, ".")};
}

const std::string& Row::text(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) fail_at(key, "must be a string; got ", value.type_name());
  return value.get_ref<const std::string&>();
}

bool Row::flag(const char* key) const {
  const Json& value = at(key);
  if (!value.is_boolean()) fail_at(key, "must be true or false; got ", value.type_name());
  return value.get<bool>();
}

std::int64_t Row::integer(const char* key) const {
  const Json& value = at(key);
  if (!value.is_number_integer() || value < 0 || value > kMaxLines) {
    fail_at(key, "must be a whole number from 0 to ", kMaxLines, "; got ",
            value.is_number() ? value.dump() : value.type_name());
  }
  return value.get<std::int64_t>();
}

std::int64_t Row::integer_of_text(const char* key) const {
  const std::string& digits = text(key);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 0) {
    fail_at(key, "must be a string of digits; got '", digits.substr(0, 20), "'");
  }
  return value;
}

std::vector<std::string> Row::texts(const char* key) const {
  const Json& list = at(key);
  if (!list.is_array()) fail_at(key, "must be a list of strings; got ", list.type_name());
  std::vector<std::string> result;
  result.reserve(list.size());
  for (const Json& item : list) {
    if (!item.is_string()) fail_at(key, "must be a list of strings; it holds ", item.type_name());
    result.push_back(item.get_ref<const std::string&>());
  }
  return result;
}

std::vector<std::int64_t> Row::integers(const char* key) const {
  const Json& list = at(key);
  if (!list.is_array()) fail_at(key, "must be a list of whole numbers; got ", list.type_name());
  std::vector<std::int64_t> result;
  result.reserve(list.size());
  for (const Json& item : list) {
    if (!item.is_number_integer() || item < 0 || item > kMaxLines) {
      fail_at(key, "must be a list of whole numbers from 0 to ", kMaxLines, "; it holds ",
              item.is_number() ? item.dump() : item.type_name());
    }
    result.push_back(item.get<std::int64_t>());
  }
  return result;
}

EvalData::EvalData(fs::path folder) : folder_(std::move(folder)) {
  const fs::path path = folder_ / "index.json";
  if (!fs::exists(path)) {
    throw DataError(
        cat("[eval] the folder of evaluation data must hold index.json; ", path.string(), " does not exist", kRemedy));
  }
  const Json content = read_json(path, kMaxIndexBytes, kMaxDepth);
  const Row index(content, path.string(), "");
  if (index.integer("format") != 1) index.fail("'format' must be 1; got ", index.integer("format"));
  const Json& files = index.at("files");
  if (!files.is_array()) index.fail("'files' must be a list; got ", files.type_name());
  for (std::size_t i = 0; i < files.size(); ++i) add(Row(files[i], path.string(), cat("files[", i, "].")));
}

void EvalData::add(const Row& entry) {
  File file{
      .path = entry.text("path"), .bytes = 0, .lines = entry.integer("lines"), .checksum = entry.text("checksum")};
  const Json& bytes = entry.at("bytes");
  if (!bytes.is_number_unsigned() || bytes > kMaxFileBytes) {
    entry.fail("'bytes' of ", file.path, " must be a whole number from 0 to ", kMaxFileBytes);
  }
  file.bytes = bytes.get<std::uint64_t>();
  if (!is_inner_path(file.path)) {
    entry.fail("a path must name a file inside of the folder; got '", file.path, "'");
  }
  const std::string name = without_suffix(file.path);
  if (name.empty()) entry.fail("a path must end in .jsonl, .jsonl.gz or .jsonl.zst; got '", file.path, "'");
  if (!files_.emplace(name, std::move(file)).second) entry.fail("'", name, "' stands twice");
}

const EvalData::File& EvalData::verified(const std::string& name) const {
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

void EvalData::read(const std::string& name, const std::function<void(const Row&)>& take) const {
  const File& file = verified(name);
  TextReader reader({folder_ / file.path}, kMaxLineBytes);
  std::int64_t lines = 0;
  std::uint64_t bytes = 0;
  for (RawDocument line; reader.next(line);) {
    bytes += line.bytes.size();
    if (++lines > file.lines || bytes > kMaxTextBytes) break;
    const Json content = parse_json(line.bytes, line.where(), kMaxDepth);
    take(Row(content, line.where(), ""));
  }
  if (lines != file.lines || bytes > kMaxTextBytes) {
    throw DataError(cat("[eval] ", (folder_ / file.path).string(), " must have ", file.lines, " lines and at most ",
                        kMaxTextBytes, " bytes of text; got ", lines > file.lines ? "more" : cat(lines, " lines")));
  }
}

}  // namespace norma
