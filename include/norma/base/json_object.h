// Typed access to a JSON object of foreign origin.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "norma/base/error.h"
#include "norma/base/json.h"

namespace norma {

// Every access throws DataError when the key is missing or its value of another type: "WHERE: 'choices.text' must be a
// list of strings; got number".
class JsonObject {
 public:
  // `value` must outlive the object. `where` starts every message: "[eval] file.jsonl:3". `path` is the object's place
  // in what `where` names, "" for all of it.
  JsonObject(const Json& value, std::string where, std::string path = "");

  bool has(const std::string& key) const { return value_->contains(key); }
  const Json& at(const std::string& key) const;
  const Json& list(const std::string& key) const;
  JsonObject object(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  bool flag(const std::string& key) const;
  std::int64_t integer(const std::string& key, std::int64_t most = kMost) const;  // from 0
  double number(const std::string& key) const;                                    // finite
  std::vector<std::string> texts(const std::string& key) const;
  std::vector<std::int64_t> integers(const std::string& key, std::int64_t most = kMost) const;  // from 0
  std::vector<double> numbers(const std::string& key) const;                                    // finite

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw DataError(cat(where_, ": ", parts...));
  }
  template <class... Parts>
  [[noreturn]] void fail_at(const std::string& key, const Parts&... parts) const {
    fail("'", path_, path_.empty() ? "" : ".", key, "' ", parts...);
  }

 private:
  static constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

  const Json* value_;
  std::string where_;
  std::string path_;
};

}  // namespace norma
