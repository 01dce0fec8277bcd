#include "norma/data/text_reader.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "norma/base/error.h"
#include "norma/base/json.h"

#include "byte_source.h"
#include "json_repair.h"
#include "unicode.h"

namespace norma {

namespace {

struct TextKind {
  bool is_json = false;
  Packing packing = Packing::none;
};

constexpr const char* kSuffixes = ".jsonl, .txt, .md, .rst, each also with .gz or .zst, .json.gz and .json.zst";

std::optional<TextKind> kind_of(std::string_view name) {
  TextKind kind;
  const auto cut = [&name](std::string_view suffix) {
    const bool found = name.ends_with(suffix);
    if (found) name.remove_suffix(suffix.size());
    return found;
  };
  if (cut(".gz"))
    kind.packing = Packing::gzip;
  else if (cut(".zst"))
    kind.packing = Packing::zstd;
  kind.is_json = name.ends_with(".jsonl") || (kind.packing != Packing::none && name.ends_with(".json"));
  if (kind.is_json || name.ends_with(".txt") || name.ends_with(".md") || name.ends_with(".rst")) return kind;
  return std::nullopt;
}

// Known text files below a folder, sorted by path.
std::vector<fs::path> walk(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (kind_of(name) && entry->is_regular_file()) {
      found.push_back(entry->path());
    }
  }
  if (error) throw DataError(cat("[text] folder ", folder.string(), " cannot be read: ", error.message()));
  if (found.empty()) {
    throw DataError(cat("[text] folder ", folder.string(), " must hold text files; got none that ends in ", kSuffixes));
  }
  std::sort(found.begin(), found.end());
  return found;
}

constexpr std::size_t kMaxReason = 200;  // of what a parser says; it quotes the text

// Takes the string under "text" at the top level and ignores everything else.
class TextField : public nlohmann::json_sax<Json> {
 public:
  std::optional<std::string> text;
  bool is_repeated = false;
  std::string error;

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(Json::number_integer_t) override { return other(); }
  bool number_unsigned(Json::number_unsigned_t) override { return other(); }
  bool number_float(Json::number_float_t, const std::string&) override { return other(); }
  bool binary(Json::binary_t&) override { return other(); }
  bool string(std::string& value) override {
    if (at_text_) text = std::move(value);
    return other();
  }
  bool start_object(std::size_t) override {
    ++depth_;
    return other();
  }
  bool key(std::string& value) override {
    at_text_ = depth_ == 1 && value == "text";
    is_repeated = is_repeated || (at_text_ && text);
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  // An array counts as a level too: a "text" inside of one is not the document's.
  bool start_array(std::size_t) override {
    depth_ += 2;
    return other();
  }
  bool end_array() override {
    depth_ -= 2;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& reason) override {
    std::string_view told = reason.what();  // "[json.exception.parse_error.101] parse error at line 1, column 9: why"
    for (const std::string_view end : {"] ", ": "}) {
      if (const std::size_t found = told.find(end); found != std::string_view::npos) told.remove_prefix(found + 2);
    }
    error = cat("bad JSON at byte ", position, ": ", told.substr(0, kMaxReason));
    return false;
  }

 private:
  bool other() {
    at_text_ = false;
    return true;
  }

  int depth_ = 0;
  bool at_text_ = false;
};

}  // namespace

std::vector<fs::path> find_text_files(const std::vector<std::string>& inputs) {
  if (inputs.empty()) throw DataError("[text] at least one input must be named: a file, a folder or a glob");
  std::vector<fs::path> files;
  for (const std::string& input : inputs) {
    const std::vector<std::string> matches = expand_glob(input);
    if (matches.empty()) throw DataError(cat("[text] '", input, "' must match at least one file; got none"));
    for (const std::string& name : matches) {
      if (!fs::exists(name)) throw DataError(cat("[text] ", name, " does not exist"));
      if (fs::is_directory(name)) {
        const std::vector<fs::path> inside = walk(name);
        files.insert(files.end(), inside.begin(), inside.end());
        continue;
      }
      if (!kind_of(name)) throw DataError(cat("[text] ", name, " must end in a known suffix: ", kSuffixes));
      files.emplace_back(name);
    }
  }
  return files;
}

std::string RawDocument::where() const {
  return line == 0 ? file : cat(file, ":", line);
}

// A file being read: what was decompressed but not yet handed out lies in buffer[begin, end).
struct TextReader::OpenFile {
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

  OpenFile(const fs::path& path, TextKind kind)
      : name(path.string()), is_json(kind.is_json), source(ByteSource::open(path, kind.packing)) {}

  bool fill() {
    begin = 0;
    end = source->read(buffer.data(), buffer.size());
    return end != 0;
  }

  std::string name;
  bool is_json;
  bool is_done = false;  // plain text: its one document was handed out
  std::int64_t line = 0;
  std::unique_ptr<ByteSource> source;
  std::vector<char> buffer = std::vector<char>(kBufferBytes);
  std::size_t begin = 0;
  std::size_t end = 0;
};

TextReader::TextReader(std::vector<fs::path> files, std::uint64_t max_document_bytes)
    : files_(std::move(files)), max_document_bytes_(max_document_bytes) {
  for (const fs::path& file : files_) {
    std::error_code error;
    const std::uint64_t bytes = fs::file_size(file, error);
    if (error) throw DataError(cat("[text] ", file.string(), " cannot be read: ", error.message()));
    bytes_total_ += bytes;
  }
}

TextReader::~TextReader() = default;

void TextReader::open(const fs::path& path) {
  const std::optional<TextKind> kind = kind_of(path.filename().string());
  NORMA_CHECK(kind, "[text] ", path.string(), " must come from find_text_files");
  current_ = std::make_unique<OpenFile>(path, *kind);
}

std::uint64_t TextReader::bytes_read() const {
  return bytes_of_finished_ + (current_ ? current_->source->bytes_read() : 0);
}

bool TextReader::next(RawDocument& document) {
  while (true) {
    if (!current_) {
      if (next_file_ == files_.size()) return false;
      open(files_[next_file_++]);
    }
    if (read_document(document)) return true;
    bytes_of_finished_ += current_->source->bytes_read();
    current_.reset();
  }
}

// The next line that is not blank, or the whole file. False when the file is used up.
bool TextReader::read_document(RawDocument& document) {
  OpenFile& file = *current_;
  document.file = file.name;
  document.is_json = file.is_json;
  document.bytes.clear();
  if (file.is_done) return false;
  while (file.begin < file.end || file.fill()) {
    const char* start = file.buffer.data() + file.begin;
    const std::size_t available = file.end - file.begin;
    const void* newline = file.is_json ? std::memchr(start, '\n', available) : nullptr;
    const std::size_t length =
        newline == nullptr ? available : static_cast<std::size_t>(static_cast<const char*>(newline) - start);
    if (document.bytes.size() + length > max_document_bytes_) {
      throw DataError(cat("[text] ", file.name, file.is_json ? cat(":", file.line + 1) : "",
                          ": a document must have at ", "most ", max_document_bytes_, " bytes; this one has more"));
    }
    document.bytes.append(start, length);
    file.begin += length + (newline == nullptr ? 0 : 1);
    if (newline == nullptr) continue;
    document.line = ++file.line;
    if (document.bytes.find_first_not_of(" \t\r") != std::string::npos) return true;
    document.bytes.clear();
  }
  file.is_done = true;
  document.line = file.is_json ? ++file.line : 0;
  // A plain file is a document even when it is empty, so that documents can be counted; a last blank line is none.
  return !file.is_json || document.bytes.find_first_not_of(" \t\r") != std::string::npos;
}

DocumentText document_text(RawDocument document) {
  DocumentText result;
  if (!is_valid_utf8(document.bytes)) {
    std::string repaired;
    append_repaired_utf8(document.bytes, repaired);
    document.bytes = std::move(repaired);
    result.is_repaired = true;
  }
  if (!document.is_json) {
    result.text = std::move(document.bytes);
    return result;
  }
  TextField field;
  if (!Json::sax_parse(document.bytes, &field)) {
    const RepairedJson repaired = repair_json(document.bytes);  // most lines are strict JSON, so this comes second
    result.is_repaired = result.is_repaired || repaired.has_lone_surrogates;
    field = TextField();
    if (!Json::sax_parse(repaired.text, &field)) {
      throw DataError(cat("[text] ", document.where(), " must be a JSON object on one line; got ", field.error));
    }
  }
  if (!field.text) {
    throw DataError(cat("[text] ", document.where(), " must be a JSON object with a string \"text\"; got none"));
  }
  if (field.is_repeated) throw DataError(cat("[text] ", document.where(), ": \"text\" must occur once"));
  result.text = std::move(*field.text);
  return result;
}

}  // namespace norma
