// What the visitors of config structs share: the kinds of fields, and their values as text.
#pragma once

#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "norma/base/text.h"
#include "norma/config/names.h"

namespace norma {

// A struct with visit(): a section of the file.
template <class T>
concept Section = requires(T& t) {
  t.visit([](const char*, auto&, const char*) {});
};

// A section that may also be written as a bare scalar, which sets the field named T::kShorthand.
template <class T>
concept Shorthand = Section<T> && requires {
  T::kShorthand;
};

template <class T>
concept Enum = std::is_enum_v<T>;

inline std::string join_key(const std::string& section, const std::string& name) {
  return section.empty() ? name : cat(section, ".", name);
}

template <Section T>
std::vector<std::string> field_names() {
  std::vector<std::string> names;
  T section;
  section.visit([&](const char* name, auto&, const char*) { names.push_back(name); });
  return names;
}

// Values as YAML, on one line.
std::string value_text(const std::string& text);  // in double quotes where YAML could read it as something else
inline std::string value_text(bool value) {
  return value ? "true" : "false";
}
inline std::string value_text(std::int64_t value) {
  return std::to_string(value);
}
inline std::string value_text(double value) {
  return shortest(value);
}
inline std::string value_text(const Duration& value) {
  return to_string(value);
}
template <Enum T>
std::string value_text(T value) {
  return std::string(enum_name(value));
}
template <class T>
std::string value_text(const std::optional<T>& value) {
  return value ? value_text(*value) : "null";
}
template <class T>
std::string value_text(const std::vector<T>& values) {
  std::vector<std::string> parts;
  for (const T& value : values) parts.push_back(value_text(value));
  return cat("[", join(parts, ", "), "]");
}
template <Section T>
std::string value_text(T section) {
  std::vector<std::string> parts;
  section.visit(
      [&](const char* name, const auto& field, const char*) { parts.push_back(cat(name, ": ", value_text(field))); });
  return cat("{", join(parts, ", "), "}");
}

// One row of the list of keys. The keys of a map are written <key>.
struct KeyRow {
  std::string key, type, fallback, meaning;
  std::string shorthand;  // the section with a bare form that contains this key, or ""
};

// Every key, sections included, in the order of the structs.
const std::vector<KeyRow>& all_keys();

// Whether `key` is `prefix` or inside it. "<key>" on either side matches any one component.
bool key_starts_with(const std::string& key, const std::string& prefix);

}  // namespace norma
