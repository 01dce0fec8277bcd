// The folder that scripts/fetch_eval_data.sh lays out: an index, and files of JSON lines.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/json.h"

namespace norma {

// An object of a line; every access checks the type and names file, line and key.
class Row {
 public:
  // `value` must outlive the row. `path` is the object's place in the line, "" for the line itself.
  Row(const Json& value, std::string where, std::string path);

  const Json& at(const char* key) const;  // DataError when it is missing
  Row object(const char* key) const;
  const std::string& text(const char* key) const;
  bool flag(const char* key) const;
  std::int64_t integer(const char* key) const;          // from 0
  std::int64_t integer_of_text(const char* key) const;  // a string of digits: "3"
  std::vector<std::string> texts(const char* key) const;
  std::vector<std::int64_t> integers(const char* key) const;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw DataError(cat("[eval] ", where_, ": ", parts...));
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail_at(const char* key, const Parts&... parts) const {
    fail("'", path_, key, "' ", parts...);
  }

  const Json* value_;
  std::string where_;
  std::string path_;
};

class EvalData {
 public:
  // Reads the index. DataError: no folder, no index, an index that is malformed or names a file outside of the folder.
  explicit EvalData(fs::path folder);

  // Calls `take` with every line of a file, in order; `name` is its path in the folder without suffixes. DataError: not
  // in the index, size, checksum or number of lines differ from it, a line that is no JSON object.
  void read(const std::string& name, const std::function<void(const Row&)>& take) const;

 private:
  struct File {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t lines = 0;
    std::string checksum;
  };
  void add(const Row& entry);
  const File& verified(const std::string& name) const;

  fs::path folder_;
  std::map<std::string, File> files_;  // by name
};

}  // namespace norma
