// Configs key by key, and the keys in which two configs differ.
#include "norma/config/yaml.h"

#include "fields.h"

namespace norma {
namespace {

using Values = std::map<std::string, std::string>;  // dotted key -> value as YAML writes it

class Flattener {
 public:
  template <class T>
  void add(const std::string& key, T& value) {
    if constexpr (Section<T> && !Shorthand<T>) {
      value.visit([&](const char* name, auto& field, const char*) { this->add(join_key(key, name), field); });
    } else {
      values[key] = value_text(value);
    }
  }

  template <class T>
  void add(const std::string& key, std::map<std::string, T>& entries) {
    for (auto& [name, value] : entries) add(join_key(key, name), value);
  }

  Values values;
};

}  // namespace

std::map<std::string, std::string> values_by_key(const RunConfig& config) {
  RunConfig copy = config;  // visit() hands out references that could be written through
  Flattener flattener;
  flattener.add("", copy);
  return flattener.values;
}

bool is_inside(const std::string& key, const std::string& section) {
  return key == section || key.starts_with(section + ".");
}

std::vector<KeyDifference> differing_keys(const RunConfig& before, const RunConfig& now) {
  const Values old_values = values_by_key(before), new_values = values_by_key(now);
  Values all = old_values;
  all.insert(new_values.begin(), new_values.end());
  const auto text = [](const Values& values, const std::string& key) {
    const auto found = values.find(key);
    return found == values.end() ? std::string("absent") : found->second;
  };
  std::vector<KeyDifference> differences;
  for (const auto& [key, unused] : all) {
    const KeyDifference one{key, text(old_values, key), text(new_values, key)};
    if (one.before != one.now) differences.push_back(one);
  }
  return differences;
}

}  // namespace norma
