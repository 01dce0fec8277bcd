// Typed access to a foreign config.json.
#pragma once

#include <optional>
#include <string>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/base/text.h"

namespace norma {

class HfFields {
 public:
  HfFields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  // A key that is missing or null counts as absent.
  bool has(const char* key) const {
    const auto found = json_.find(key);
    return found != json_.end() && !found->is_null();
  }

  std::optional<std::int64_t> integer(const char* key) const {
    if (!has(key)) return std::nullopt;
    const Json& value = json_.at(key);
    constexpr std::int64_t kMost = std::int64_t{1} << 40;
    const bool fits = value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() <= kMost);
    if (!fits || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > kMost) wrong(key, "a whole number");
    return value.get<std::int64_t>();
  }
  std::optional<double> number(const char* key) const {
    if (!has(key)) return std::nullopt;
    if (!json_.at(key).is_number()) wrong(key, "a number");
    return json_.at(key).get<double>();
  }
  std::optional<bool> flag(const char* key) const {
    if (!has(key)) return std::nullopt;
    if (!json_.at(key).is_boolean()) wrong(key, "true or false");
    return json_.at(key).get<bool>();
  }
  std::optional<std::string> text(const char* key) const {
    if (!has(key)) return std::nullopt;
    if (!json_.at(key).is_string()) wrong(key, "a string");
    return json_.at(key).get<std::string>();
  }
  std::optional<HfFields> section(const char* key) const {
    if (!has(key)) return std::nullopt;
    if (!json_.at(key).is_object()) wrong(key, "an object");
    return inside(json_.at(key), key);
  }
  // An object that lies in this one.
  HfFields inside(const Json& json, const std::string& name) const { return {json, cat(where_, ": ", name)}; }

  template <class T>
  T required(const char* key, const std::optional<T>& value) const {
    if (!value) fail(cat("needs ", key));
    return *value;
  }
  std::int64_t need_integer(const char* key) const { return required(key, integer(key)); }
  double need_number(const char* key) const { return required(key, number(key)); }

  const Json& at(const char* key) const { return json_.at(key); }
  [[noreturn]] void fail(const std::string& text) const { throw DataError(cat("[import] ", where_, ": ", text)); }

 private:
  [[noreturn]] void wrong(const char* key, const char* wanted) const {
    fail(cat(key, " must be ", wanted, "; got ", json_.at(key).dump().substr(0, 80)));
  }

  const Json& json_;
  std::string where_;
};

}  // namespace norma
