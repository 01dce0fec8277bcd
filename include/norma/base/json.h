// JSON of foreign origin: parsing with bounds, typed access that says where something is wrong, and printing.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "norma/base/error.h"
#include "norma/base/file.h"

namespace norma {

using Json = nlohmann::ordered_json;  // keeps the order of keys, so that files stay diffable

// Throws the error of code `kind` with `where`, line and reason: bad syntax, nesting beyond max_depth, a key that
// occurs twice in an object.
Json parse_json(std::string_view text, const std::string& where, int max_depth = 64, ExitCode kind = ExitCode::data);

// The same for a file. Throws DataError when the file cannot be read or is larger than max_bytes.
Json read_json(const fs::path& path, std::uint64_t max_bytes, int max_depth = 64);

// JSON as text, on one line or, with an indent, on several. Strings that are not UTF-8 get U+FFFD instead of an error:
// names of files and settings come from outside, and a record must not fail for them.
std::string to_text(const Json& json, int indent = -1);

// Writes it indented, by write_file_atomic(). Throws DiskError.
void write_json(const fs::path& path, const Json& json);

// Where a value lies, so that an error can say it: "[import] config.json: 'rope_parameters.factor' must be ...".
class JsonLocation {
 public:
  // `where` names the document with all its words, "[import] config.json". `kind` is the error that fail() throws.
  explicit JsonLocation(std::string where, ExitCode kind = ExitCode::data);

  JsonLocation member(std::string_view key) const;
  JsonLocation item(std::size_t index) const;
  const std::string& path() const { return path_; }  // "" for the whole document

  // `parts` say what is wrong, as the predicate of a sentence whose subject is the path.
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    fail_with(cat(parts...));
  }

 private:
  struct Document {
    std::string where;
    ExitCode kind;
  };
  [[noreturn]] void fail_with(const std::string& reason) const;

  std::shared_ptr<const Document> document_;
  std::string path_;
};

struct IntegerRange {
  std::int64_t least = 0, most = std::numeric_limits<std::int64_t>::max();
};

// Typed access to an object. A member that is missing or of another type is an error that names it:
// "[eval] file.jsonl:3: 'choices.text' must be a list of strings; it holds 7".
class JsonObject {
 public:
  using Names = std::vector<std::string>;

  // `value` must outlive the object; anything but an object is an error.
  JsonObject(const Json& value, JsonLocation location);
  JsonObject(const Json& value, std::string where, ExitCode kind = ExitCode::data);

  const Json& value() const { return *value_; }
  // Null counts as missing.
  bool has(std::string_view key) const;

  // Members that must be there.
  const Json& at(std::string_view key) const;
  const Json& list(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::int64_t integer(std::string_view key, IntegerRange range = {}) const;
  double number(std::string_view key) const;                                    // finite
  const std::string& choice(std::string_view key, const Names& allowed) const;  // one of these words
  JsonObject object(std::string_view key) const;
  std::vector<JsonObject> objects(std::string_view key) const;  // a list of objects
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key, IntegerRange range = {}) const;
  std::vector<double> numbers(std::string_view key) const;  // finite

  // Members that may be missing or null: nullopt then.
  std::optional<std::string> find_text(std::string_view key) const;
  std::optional<bool> find_flag(std::string_view key) const;
  std::optional<std::int64_t> find_integer(std::string_view key, IntegerRange range = {}) const;
  std::optional<double> find_number(std::string_view key) const;
  std::optional<JsonObject> find_object(std::string_view key) const;

  // An error, with the nearest of the known names, when the object has another member.
  void refuse_unknown(const Names& known) const;

  const JsonLocation& location() const { return location_; }
  // `parts` are a sentence about the whole document, or the predicate of this object inside of it.
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    location_.fail(parts...);
  }
  // `parts` are the predicate of the member.
  template <class... Parts>
  [[noreturn]] void fail_at(std::string_view key, const Parts&... parts) const {
    location_.member(key).fail(parts...);
  }

 private:
  const Json* value_;
  JsonLocation location_;
};

}  // namespace norma
