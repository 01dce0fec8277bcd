// Structs that list their fields, visit(v) calling v(key, field), as JSON objects with the keys in that order.
//
// An empty optional number is written as null, an empty optional text or section is left out. Either may be missing
// when it is read: what a later program added to a record is of that kind. How the values of an enum are spelled, in
// order, is what names_of(value) gives, a function beside the enum's own record.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "norma/base/json.h"

namespace norma {

template <class T>
concept Section = requires(T& t) {
  t.visit([](const char*, auto&) {});
};

template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

// Values by name, an object in the file.
template <class T>
inline constexpr bool kIsNamed = false;
template <class T>
inline constexpr bool kIsNamed<std::vector<std::pair<std::string, T>>> = true;

// ---- Writing ----

template <class T>
Json json_of(const T& value);

template <class T>
void write_field(Json& json, const std::string& key, const T& value) {
  if constexpr (kIsOptional<T>) {
    if (value) {
      json[key] = json_of(*value);
    } else if constexpr (std::is_arithmetic_v<typename T::value_type>) {
      json[key] = nullptr;
    }
  } else {
    json[key] = json_of(value);
  }
}

template <class T>
Json json_of(const T& value) {
  if constexpr (Section<T>) {
    Json json = Json::object();
    T copy = value;  // visit() hands out references that could be written through
    copy.visit([&](const char* key, const auto& field) { write_field(json, key, field); });
    return json;
  } else if constexpr (kIsNamed<T>) {
    Json json = Json::object();
    for (const auto& [name, entry] : value) json[name] = json_of(entry);
    return json;
  } else if constexpr (std::is_enum_v<T>) {
    return names_of(value)[static_cast<std::size_t>(value)];
  } else {
    return value;
  }
}

// ---- Reading; what is not as it must be is a DataError naming the key ----

template <Section T>
void read_section(const JsonObject& object, T& section);

template <class T>
void read_field(const JsonObject& object, const std::string& key, T& value) {
  if constexpr (kIsOptional<T>) {
    if (object.has(key)) read_field(object, key, value.emplace());
  } else if constexpr (Section<T>) {
    read_section(object.object(key), value);
  } else if constexpr (kIsNamed<T>) {
    const JsonObject entries = object.object(key);
    for (const auto& [name, unused] : entries.value().items()) {
      value.emplace_back(name, typename T::value_type::second_type{});
      read_field(entries, name, value.back().second);
    }
  } else if constexpr (std::is_enum_v<T>) {
    const std::vector<std::string> names = names_of(value);
    value = static_cast<T>(std::find(names.begin(), names.end(), object.choice(key, names)) - names.begin());
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = object.text(key);
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    value = object.integer(key);
  } else if constexpr (std::is_same_v<T, double>) {
    value = object.number(key);
  } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
    value = object.integers(key);
  } else if constexpr (std::is_same_v<T, std::vector<double>>) {
    value = object.numbers(key);
  } else {
    value = object.texts(key);
  }
}

template <Section T>
void read_section(const JsonObject& object, T& section) {
  section.visit([&](const char* key, auto& field) { read_field(object, key, field); });
}

// ---- Whole files ----

inline constexpr std::uint64_t kMaxRecordBytes = std::uint64_t{64} << 20;

template <class T>
T read_record(const fs::path& path) {
  const Json json = read_json(path, kMaxRecordBytes);
  T record;
  read_section(JsonObject(json, cat("[record] ", path.string())), record);
  return record;
}

}  // namespace norma
