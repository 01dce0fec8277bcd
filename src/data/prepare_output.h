// The files prepare() writes: numbered token files with their sidecars, and the folder they are published into.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/file.h"
#include "norma/data/prepare.h"
#include "norma/data/token_file.h"

namespace norma {

// The numbered token files of one split and their sidecars. `common` is what all sidecars share.
class SplitWriter {
 public:
  SplitWriter(fs::path folder, Sidecar common, std::int64_t max_tokens);

  void append(std::span<const std::uint32_t> document);
  void close();

  const std::vector<std::string>& names() const { return names_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return documents_; }

 private:
  void open();
  template <class Id>
  void put(Id id);

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

// The output folder: locked and checked first, filled under `.preparing`, published at the end.
class PrepareOutput {
 public:
  PrepareOutput(const PrepareOptions& options, const std::string& tokenizer_checksum);
  ~PrepareOutput();
  PrepareOutput(const PrepareOutput&) = delete;
  PrepareOutput& operator=(const PrepareOutput&) = delete;

  const fs::path& staging() const { return staging_; }

  // Moves the token files `names` out of staging() with their sidecars and returns their paths. A token file counts
  // only with its sidecar, so old sidecars go first and new ones come last.
  std::vector<fs::path> publish(const std::vector<std::string>& names, std::string_view tokenizer);

 private:
  void lock();
  void refuse_other_output(const std::string& tokenizer_checksum) const;
  void find_earlier();
  void move(const fs::path& name);
  template <class Action>
  void checked(Action action) const;

  fs::path folder_;
  fs::path staging_;
  std::optional<FileLock> lock_;
  std::vector<fs::path> earlier_;  // files of an earlier prepare, sidecars first
};

}  // namespace norma
