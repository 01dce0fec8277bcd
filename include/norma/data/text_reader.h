// Documents out of text files, one at a time, in bounded memory.
//
//   .jsonl                   one document per line: a JSON object with a string "text"; blank lines are skipped
//   .txt .md .rst            one document per file
//   .gz, .zst after these    compressed, in one or several gzip members or zstd frames
//   .json.gz, .json.zst      as .jsonl, compressed
//
// A document, decompressed, may have at most max_document_bytes; nothing else grows with the input.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/file.h"

namespace norma {

// The text files that the inputs stand for: names, globs, and folders that are walked recursively (sorted, known
// suffixes only, without hidden entries). A file named twice counts twice. Throws DataError: no inputs, nothing found,
// a missing file, an unknown suffix.
std::vector<fs::path> find_text_files(const std::vector<std::string>& inputs);

// A document as its file holds it: a line of JSON, or the text itself.
struct RawDocument {
  std::string bytes;
  std::string file;
  std::int64_t line = 0;  // from 1; 0 when the whole file is the document
  bool is_json = false;

  std::string where() const;  // "books.jsonl.gz:17"
};

class TextReader {
 public:
  static constexpr std::uint64_t kMaxDocumentBytes = std::uint64_t{256} << 20;

  explicit TextReader(std::vector<fs::path> files, std::uint64_t max_document_bytes = kMaxDocumentBytes);
  ~TextReader();
  TextReader(const TextReader&) = delete;
  TextReader& operator=(const TextReader&) = delete;

  // False at the end of the last file. Throws DataError naming file (and line): a file that cannot be read, compressed
  // data that is damaged or cut off, a document beyond max_document_bytes.
  bool next(RawDocument& document);

  // Bytes on disk, for progress.
  std::uint64_t bytes_read() const;
  std::uint64_t bytes_total() const { return bytes_total_; }

 private:
  struct OpenFile;
  void open(const fs::path& path);
  bool read_document(RawDocument& document);

  std::vector<fs::path> files_;
  std::uint64_t max_document_bytes_;
  std::uint64_t bytes_total_ = 0;
  std::uint64_t bytes_of_finished_ = 0;
  std::size_t next_file_ = 0;
  std::unique_ptr<OpenFile> current_;
};

struct DocumentText {
  std::string text;
  bool is_repaired = false;  // something in the line or file became U+FFFD
};

// The document's text. Ill-formed UTF-8 becomes U+FFFD, as Python's errors="replace", and so does a lone surrogate
// of JSON ("\ud800"). NaN, Infinity and numbers beyond a double are accepted, as by Python's json. Throws DataError
// naming file, line and reason: not JSON, no "text" at the top level, one that is not a string or occurs twice. Safe to
// call from several threads.
DocumentText document_text(RawDocument document);

}  // namespace norma
