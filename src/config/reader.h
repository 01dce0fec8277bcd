// Fills config structs from a tree of YAML nodes and collects everything that is wrong with it.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "norma/config/yaml.h"

#include "fields.h"
#include "node.h"

namespace norma {

// What a node holds, for messages: "'abc'", "a list", "a section", "nothing".
std::string describe_node(const ConfigNode& node);

class Reader {
 public:
  // `argument` is the override as typed and `argument_key` its dotted key. Both are empty for a file.
  Reader(ConfigSource& source, Problems& problems, std::string argument = "", std::string argument_key = "")
      : source_(source), problems_(problems), argument_(std::move(argument)), argument_key_(std::move(argument_key)) {}

  template <Section T>
  void read(const ConfigNode& node, const std::string& key, T& section);
  template <class T>
  void read(const ConfigNode& node, const std::string& key, std::optional<T>& value);
  template <class T>
  void read(const ConfigNode& node, const std::string& key, std::vector<T>& values);
  template <class T>
  void read(const ConfigNode& node, const std::string& key, std::map<std::string, T>& values);
  template <Enum T>
  void read(const ConfigNode& node, const std::string& key, T& value);

  void read(const ConfigNode& node, const std::string& key, bool& value);
  void read(const ConfigNode& node, const std::string& key, std::int64_t& value);
  void read(const ConfigNode& node, const std::string& key, double& value);
  void read(const ConfigNode& node, const std::string& key, std::string& value);
  void read(const ConfigNode& node, const std::string& key, Duration& value);

 private:
  // Remembers where `key` was given, so that a later problem can name the line or the argument.
  void note(const ConfigNode& node, const std::string& key);
  void report(const ConfigNode& node, const std::string& key, const std::string& text);
  // Whether `key` is what the override sets, or inside it. False for the sections that contain it.
  bool in_argument(const std::string& key) const { return !argument_.empty() && key.starts_with(argument_key_); }
  void report_type(const ConfigNode& node, const std::string& key, const std::string& wanted);
  void report_unknown(const ConfigNode& node, const std::string& section, const std::vector<std::string>& allowed);

  ConfigSource& source_;
  Problems& problems_;
  std::string argument_, argument_key_;
};

template <Section T>
void Reader::read(const ConfigNode& node, const std::string& key, T& section) {
  note(node, key);
  if constexpr (Shorthand<T>) {
    if (node.kind == ConfigNode::Kind::scalar) {
      section.visit([&](const char* name, auto& field, const char*) {
        if (std::string_view(name) == T::kShorthand) read(node, key, field);
      });
      return;
    }
  } else if (node.kind == ConfigNode::Kind::null) {
    section = T{};
    return;
  }
  const std::vector<std::string> names = field_names<T>();
  if (node.kind != ConfigNode::Kind::map) {
    std::string bare;
    if constexpr (Shorthand<T>) bare = cat("a bare ", T::kShorthand, " or ");
    return report_type(node, key, cat(bare, "a section with the keys ", join(names, ", ")));
  }
  section.visit([&](const char* name, auto& field, const char*) {
    for (const ConfigNode& child : node.children) {
      if (child.key == name) read(child, join_key(key, name), field);
    }
  });
  for (const ConfigNode& child : node.children) {
    if (std::find(names.begin(), names.end(), child.key) == names.end()) report_unknown(child, key, names);
  }
}

template <class T>
void Reader::read(const ConfigNode& node, const std::string& key, std::optional<T>& value) {
  note(node, key);
  if (node.kind == ConfigNode::Kind::null) {
    value.reset();
    return;
  }
  T given{};
  const std::size_t problems_before = problems_.size();
  read(node, key, given);
  if (problems_.size() == problems_before) value = given;
}

template <class T>
void Reader::read(const ConfigNode& node, const std::string& key, std::vector<T>& values) {
  note(node, key);
  std::vector<T> given;
  if (std::is_same_v<T, std::string> && node.kind == ConfigNode::Kind::scalar) {
    read(node, key, given.emplace_back());
  } else if (node.kind != ConfigNode::Kind::sequence) {
    return report_type(node, key, "a list such as [a, b]");
  }
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    read(node.children[i], cat(key, "[", i, "]"), given.emplace_back());
  }
  values = std::move(given);
}

// A map that an override gives as a whole replaces the one from before; a dotted key adds or changes one entry.
template <class T>
void Reader::read(const ConfigNode& node, const std::string& key, std::map<std::string, T>& values) {
  note(node, key);
  const bool empty = node.kind == ConfigNode::Kind::null;
  if (!empty && node.kind != ConfigNode::Kind::map) return report_type(node, key, "a map such as {name: value}");
  if (empty || in_argument(key)) values.clear();
  for (const ConfigNode& child : node.children) read(child, join_key(key, child.key), values[child.key]);
}

template <Enum T>
void Reader::read(const ConfigNode& node, const std::string& key, T& value) {
  note(node, key);
  const std::vector<std::string> names = enum_names<T>();
  const bool scalar = node.kind == ConfigNode::Kind::scalar;
  if (const auto given = scalar ? parse_enum<T>(node.text) : std::nullopt) {
    value = *given;
  } else {
    report(node, key,
           cat("must be one of ", join(names, ", "), "; got ", describe_node(node), did_you_mean(node.text, names)));
  }
}

}  // namespace norma
