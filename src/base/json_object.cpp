#include "norma/base/json_object.h"

#include <cmath>
#include <limits>
#include <optional>

namespace norma {
namespace {

constexpr std::size_t kMostShown = 40;  // bytes of a wrong value

// A number as it stands, anything else by its type.
std::string shown(const Json& value) {
  return value.is_number() ? value.dump().substr(0, kMostShown) : value.type_name();
}

// From 0 to `most`; nullopt for anything else.
std::optional<std::int64_t> whole_number(const Json& value, std::int64_t most) {
  if (!value.is_number_integer() || value < 0 || value > most) return std::nullopt;
  return value.get<std::int64_t>();
}

std::optional<double> finite_number(const Json& value) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

}  // namespace

JsonObject::JsonObject(const Json& value, std::string where, std::string path)
    : value_(&value), where_(std::move(where)), path_(std::move(path)) {
  if (value.is_object()) return;
  const std::string what = path_.empty() ? "it" : cat("'", path_, "'");
  fail(what, " must be an object; got ", value.type_name());
}

const Json& JsonObject::at(const std::string& key) const {
  const auto found = value_->find(key);
  if (found == value_->end()) fail_at(key, "must be there; it is missing");
  return *found;
}

const Json& JsonObject::list(const std::string& key) const {
  const Json& value = at(key);
  if (!value.is_array()) fail_at(key, "must be a list; got ", value.type_name());
  return value;
}

JsonObject JsonObject::object(const std::string& key) const {
  return {at(key), where_, path_.empty() ? key : cat(path_, ".", key)};
}

const std::string& JsonObject::text(const std::string& key) const {
  const Json& value = at(key);
  if (!value.is_string()) fail_at(key, "must be a string; got ", value.type_name());
  return value.get_ref<const std::string&>();
}

bool JsonObject::flag(const std::string& key) const {
  const Json& value = at(key);
  if (!value.is_boolean()) fail_at(key, "must be true or false; got ", value.type_name());
  return value.get<bool>();
}

std::int64_t JsonObject::integer(const std::string& key, std::int64_t most) const {
  const std::optional<std::int64_t> value = whole_number(at(key), most);
  if (!value) {
    fail_at(key, "must be a whole number from 0", most == kMost ? "" : cat(" to ", most), "; got ", shown(at(key)));
  }
  return *value;
}

double JsonObject::number(const std::string& key) const {
  const std::optional<double> value = finite_number(at(key));
  if (!value) fail_at(key, "must be a finite number; got ", shown(at(key)));
  return *value;
}

std::vector<std::string> JsonObject::texts(const std::string& key) const {
  std::vector<std::string> result;
  for (const Json& item : list(key)) {
    if (!item.is_string()) fail_at(key, "must be a list of strings; it holds ", item.type_name());
    result.push_back(item.get_ref<const std::string&>());
  }
  return result;
}

std::vector<std::int64_t> JsonObject::integers(const std::string& key, std::int64_t most) const {
  std::vector<std::int64_t> result;
  for (const Json& item : list(key)) {
    const std::optional<std::int64_t> value = whole_number(item, most);
    if (!value) {
      fail_at(key, "must be a list of whole numbers from 0", most == kMost ? "" : cat(" to ", most), "; it holds ",
              shown(item));
    }
    result.push_back(*value);
  }
  return result;
}

std::vector<double> JsonObject::numbers(const std::string& key) const {
  std::vector<double> result;
  for (const Json& item : list(key)) {
    const std::optional<double> value = finite_number(item);
    if (!value) fail_at(key, "must be a list of finite numbers; it holds ", shown(item));
    result.push_back(*value);
  }
  return result;
}

}  // namespace norma
