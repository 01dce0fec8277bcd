// The folder that scripts/fetch_eval_data.sh lays out: an index, and files of JSON lines.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "norma/base/file.h"
#include "norma/base/json.h"

namespace norma {

inline constexpr std::int64_t kMaxLines = 10'000'000;  // of a file; no number, index or label in it is higher

class TaskData {
 public:
  // Reads the index. Throws DataError: no folder, no index, one that is malformed or names a file outside of the
  // folder.
  explicit TaskData(fs::path folder);

  const fs::path& folder() const { return folder_; }

  // Calls `take` with every line of a file, in order; `name` is its path in the folder without suffixes. Throws
  // DataError: the file is not in the index, its size, checksum or number of lines differ from it, or a line is no JSON
  // object.
  void read(const std::string& name, const std::function<void(const JsonObject&)>& take) const;

 private:
  struct File {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t lines = 0;
    std::string checksum;
  };
  void add(const JsonObject& entry);
  const File& verified(const std::string& name) const;

  fs::path folder_;
  std::map<std::string, File> files_;  // by name
};

}  // namespace norma
