// Typed access of json.h.
#include <algorithm>
#include <cmath>
#include <utility>

#include "norma/base/json.h"

namespace norma {
namespace {

constexpr std::size_t kMostShown = 80;  // bytes of a wrong value

std::string shortened(std::string text) {
  if (text.size() > kMostShown) text = text.substr(0, kMostShown) + "...";
  return text;
}

// A scalar as it is written, a list or an object by its type.
std::string shown(const Json& value) {
  return value.is_structured() ? value.type_name() : shortened(to_text(value));
}

std::optional<std::int64_t> whole_number(const Json& value, const IntegerRange& range) {
  const bool is_too_large = value.is_number_unsigned() && !std::in_range<std::int64_t>(value.get<std::uint64_t>());
  if (!value.is_number_integer() || is_too_large) return std::nullopt;
  const auto number = value.get<std::int64_t>();
  return number < range.least || number > range.most ? std::nullopt : std::optional(number);
}

// "a whole number from 0 to 9", "1".
std::string number_text(const IntegerRange& range) {
  if (range.least == range.most) return cat(range.least);
  return cat("a whole number from ", range.least, range.most == IntegerRange{}.most ? "" : cat(" to ", range.most));
}

std::optional<double> finite_number(const Json& value) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

}  // namespace

JsonLocation::JsonLocation(std::string where, ExitCode kind)
    : document_(std::make_shared<const Document>(Document{std::move(where), kind})) {}

JsonLocation JsonLocation::member(std::string_view key) const {
  JsonLocation inner = *this;
  if (!path_.empty()) inner.path_ += '.';
  inner.path_ += key;
  return inner;
}

JsonLocation JsonLocation::item(std::size_t index) const {
  JsonLocation inner = *this;
  inner.path_ += cat("[", index, "]");
  return inner;
}

void JsonLocation::fail_with(const std::string& reason) const {
  throw_error(document_->kind, cat(document_->where, ": ", path_.empty() ? "" : cat("'", path_, "' "), reason));
}

JsonObject::JsonObject(const Json& value, JsonLocation location) : value_(&value), location_(std::move(location)) {
  if (!value.is_object()) fail("must be an object; got ", shown(value));
}

JsonObject::JsonObject(const Json& value, std::string where, ExitCode kind)
    : JsonObject(value, JsonLocation(std::move(where), kind)) {}

bool JsonObject::has(std::string_view key) const {
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

const Json& JsonObject::at(std::string_view key) const {
  const auto found = value_->find(key);
  if (found == value_->end()) fail_at(key, "is missing");
  return *found;
}

const Json& JsonObject::list(std::string_view key) const {
  const Json& value = at(key);
  if (!value.is_array()) fail_at(key, "must be a list; got ", shown(value));
  return value;
}

const std::string& JsonObject::text(std::string_view key) const {
  const Json& value = at(key);
  if (!value.is_string()) fail_at(key, "must be a string; got ", shown(value));
  return value.get_ref<const std::string&>();
}

bool JsonObject::flag(std::string_view key) const {
  const Json& value = at(key);
  if (!value.is_boolean()) fail_at(key, "must be true or false; got ", shown(value));
  return value.get<bool>();
}

std::int64_t JsonObject::integer(std::string_view key, IntegerRange range) const {
  const Json& value = at(key);
  const std::optional<std::int64_t> number = whole_number(value, range);
  if (!number) fail_at(key, "must be ", number_text(range), "; got ", shown(value));
  return *number;
}

double JsonObject::number(std::string_view key) const {
  const Json& value = at(key);
  const std::optional<double> number = finite_number(value);
  if (!number) fail_at(key, "must be a finite number; got ", shown(value));
  return *number;
}

const std::string& JsonObject::choice(std::string_view key, const Names& allowed) const {
  const std::string& word = text(key);
  if (std::ranges::find(allowed, word) == allowed.end()) {
    fail_at(key, allowed.size() == 1 ? "must be " : "must be one of ", join(allowed, ", "), "; got '", shortened(word),
            "'", did_you_mean(word, allowed));
  }
  return word;
}

JsonObject JsonObject::object(std::string_view key) const {
  return {at(key), location_.member(key)};
}

std::vector<JsonObject> JsonObject::objects(std::string_view key) const {
  const Json& items = list(key);
  const JsonLocation location = location_.member(key);
  std::vector<JsonObject> result;
  result.reserve(items.size());
  for (const Json& item : items) result.emplace_back(item, location.item(result.size()));
  return result;
}

std::vector<std::string> JsonObject::texts(std::string_view key) const {
  std::vector<std::string> result;
  for (const Json& item : list(key)) {
    if (!item.is_string()) fail_at(key, "must be a list of strings; it holds ", shown(item));
    result.push_back(item.get_ref<const std::string&>());
  }
  return result;
}

std::vector<std::int64_t> JsonObject::integers(std::string_view key, IntegerRange range) const {
  std::vector<std::int64_t> result;
  for (const Json& item : list(key)) {
    const std::optional<std::int64_t> number = whole_number(item, range);
    if (!number) {
      fail_at(key, "must be a list whose items are each ", number_text(range), "; it holds ", shown(item));
    }
    result.push_back(*number);
  }
  return result;
}

std::vector<double> JsonObject::numbers(std::string_view key) const {
  std::vector<double> result;
  for (const Json& item : list(key)) {
    const std::optional<double> number = finite_number(item);
    if (!number) fail_at(key, "must be a list of finite numbers; it holds ", shown(item));
    result.push_back(*number);
  }
  return result;
}

std::optional<std::string> JsonObject::find_text(std::string_view key) const {
  return has(key) ? std::optional(text(key)) : std::nullopt;
}

std::optional<bool> JsonObject::find_flag(std::string_view key) const {
  return has(key) ? std::optional(flag(key)) : std::nullopt;
}

std::optional<std::int64_t> JsonObject::find_integer(std::string_view key, IntegerRange range) const {
  return has(key) ? std::optional(integer(key, range)) : std::nullopt;
}

std::optional<double> JsonObject::find_number(std::string_view key) const {
  return has(key) ? std::optional(number(key)) : std::nullopt;
}

std::optional<JsonObject> JsonObject::find_object(std::string_view key) const {
  return has(key) ? std::optional(object(key)) : std::nullopt;
}

void JsonObject::refuse_unknown(const Names& known) const {
  for (const auto& [key, value] : value_->items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    fail("has the unknown key '", shortened(key), "'", did_you_mean(key, known));
  }
}

}  // namespace norma
