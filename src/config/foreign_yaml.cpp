#include "norma/config/foreign_yaml.h"

#include <algorithm>
#include <cctype>

#include "norma/base/error.h"
#include "norma/config/number.h"

#include "node.h"

namespace norma {
namespace {

Json scalar_of(const ConfigNode& node) {
  if (node.quoted) return node.text;
  std::string lower = node.text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true" || lower == "yes" || lower == "on") return true;
  if (lower == "false" || lower == "no" || lower == "off") return false;
  if (lower.find_first_of(".e") == std::string::npos || lower.starts_with("0x")) {
    if (const auto integer = parse_integer(node.text)) return *integer;
  }
  if (const auto number = parse_double(node.text)) return *number;
  return node.text;
}

Json value_of(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::null:
      return nullptr;
    case ConfigNode::Kind::scalar:
      return scalar_of(node);
    case ConfigNode::Kind::sequence: {
      Json values = Json::array();
      for (const ConfigNode& child : node.children) values.push_back(value_of(child));
      return values;
    }
    case ConfigNode::Kind::map:
      break;
  }
  Json values = Json::object();
  for (const ConfigNode& child : node.children) values[child.key] = value_of(child);
  return values;
}

}  // namespace

Json read_foreign_yaml(const fs::path& file) {
  Problems problems;
  const ConfigNode root = parse_yaml(read_file(file, kMaxYamlBytes), problems);
  if (!problems.empty()) throw DataError(cat("[", file.string(), ":", problems[0].line, "] ", problems[0].text));
  return value_of(root);
}

}  // namespace norma
