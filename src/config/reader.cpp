#include "reader.h"

#include <iterator>

namespace norma {
namespace {

// The key "norm.layers.3.mlp" matches the row "norm.layers.<key>.mlp".
bool is_known(const std::string& key) {
  const auto depth = [](const std::string& k) { return std::count(k.begin(), k.end(), '.'); };
  return std::any_of(all_keys().begin(), all_keys().end(),
                     [&](const KeyRow& row) { return depth(row.key) == depth(key) && key_starts_with(key, row.key); });
}

std::string last_component(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

// Keys of other sections with the same last component: optim.lr for train.lr.
std::vector<std::string> namesakes(const std::string& key) {
  std::vector<std::string> same;
  for (const KeyRow& row : all_keys()) {
    const bool fixed = row.key.find('<') == std::string::npos && row.shorthand.empty();
    if (fixed && last_component(row.key) == last_component(key)) same.push_back(row.key);
  }
  return same;
}

std::string nearest_key(const std::string& key) {
  std::vector<std::string> keys;
  for (const KeyRow& row : all_keys()) keys.push_back(row.key);
  return nearest(key, keys);
}

// The key that `name` in `section` probably means. `rest` is what follows it in the key of an override.
std::string likely_key(const std::string& section, const std::string& name, const std::string& rest,
                       const std::vector<std::string>& allowed) {
  const std::string typed = join_key(section, name) + rest;
  if (const std::string near = nearest(name, allowed); !near.empty()) {
    const std::string repaired = join_key(section, near) + rest;
    if (is_known(repaired)) return repaired;
    const std::string second = nearest_key(repaired);
    return second.empty() ? join_key(section, near) : second;
  }
  if (const auto same = namesakes(typed); !same.empty()) return join(same, "' or '");
  return nearest_key(typed);
}

}  // namespace

std::string describe_node(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::null:
      return "nothing";
    case ConfigNode::Kind::scalar:
      return node.quoted ? cat("the quoted text ", quote(node.text)) : quote(node.text);
    case ConfigNode::Kind::sequence:
      return "a list";
    case ConfigNode::Kind::map:
      return "a section";
  }
  return "nothing";
}

void Reader::note(const ConfigNode& node, const std::string& key) {
  if (key.empty()) return;
  if (argument_.empty()) {
    source_.lines[key] = node.key_line > 0 ? node.key_line : node.line;
  } else if (in_argument(key)) {
    source_.arguments[key] = argument_;
  }
}

void Reader::report(const ConfigNode& node, const std::string& key, const std::string& text) {
  if (argument_.empty()) {
    problems_.push_back({key, node.key_line > 0 ? node.key_line : node.line, text});
  } else {
    problems_.push_back({in_argument(key) ? key : argument_key_, 0, text, argument_});
  }
}

void Reader::report_type(const ConfigNode& node, const std::string& key, const std::string& wanted) {
  report(node, key, cat("must be ", wanted, "; got ", describe_node(node)));
}

void Reader::report_unknown(const ConfigNode& node, const std::string& section,
                            const std::vector<std::string>& allowed) {
  const std::string key = join_key(section, node.key);
  const bool on_path = argument_key_.starts_with(key + ".");
  const std::string likely = likely_key(section, node.key, on_path ? argument_key_.substr(key.size()) : "", allowed);
  report(node, key,
         cat("unknown key", likely.empty() ? "" : cat("; did you mean '", likely, "'?"), likely.empty() ? "; " : " ",
             section.empty() ? "The top level" : section, " takes ", join(allowed, ", ")));
}

void Reader::read(const ConfigNode& node, const std::string& key, bool& value) {
  note(node, key);
  const bool plain = node.kind == ConfigNode::Kind::scalar && !node.quoted;
  std::string lower = plain ? node.text : "";
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true" || lower == "yes" || lower == "on") {
    value = true;
  } else if (lower == "false" || lower == "no" || lower == "off") {
    value = false;
  } else {
    report_type(node, key, "true or false");
  }
}

void Reader::read(const ConfigNode& node, const std::string& key, std::int64_t& value) {
  note(node, key);
  const bool plain = node.kind == ConfigNode::Kind::scalar && !node.quoted;
  if (const auto given = plain ? parse_integer(node.text) : std::nullopt) {
    value = *given;
  } else {
    report_type(node, key, "an integer (1000, 1_000, 1e3)");
  }
}

void Reader::read(const ConfigNode& node, const std::string& key, double& value) {
  note(node, key);
  const bool plain = node.kind == ConfigNode::Kind::scalar && !node.quoted;
  if (const auto given = plain ? parse_double(node.text) : std::nullopt) {
    value = *given;
  } else {
    report_type(node, key, "a finite number (0.1, 3e-4)");
  }
}

// No value is read as the empty text, which is a legal value of every text setting.
void Reader::read(const ConfigNode& node, const std::string& key, std::string& value) {
  note(node, key);
  if (node.kind == ConfigNode::Kind::scalar || node.kind == ConfigNode::Kind::null) {
    value = node.text;
  } else {
    report_type(node, key, "text");
  }
}

void Reader::read(const ConfigNode& node, const std::string& key, Duration& value) {
  note(node, key);
  if (const auto given = node.kind == ConfigNode::Kind::scalar ? parse_duration(node.text) : std::nullopt) {
    value = *given;
  } else {
    report_type(node, key, "a duration: 500 (steps), 1e9T (tokens), 2ep (epochs), 30min or 2h");
  }
}

}  // namespace norma
