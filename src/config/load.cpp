#include <algorithm>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/config/yaml.h"

#include "node.h"
#include "reader.h"

namespace norma {
namespace {

std::string read_config_file(const std::string& file) {
  try {
    return read_file(file, kMaxYamlBytes);
  } catch (const DataError& error) {
    throw ConfigError(error.what());
  }
}

// The value below sections for each part of its dotted key, as a file would nest it.
ConfigNode nest(const std::string& key, ConfigNode value) {
  const std::vector<std::string> parts = split(key, '.');
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    value.key = *part;
    ConfigNode section;
    section.kind = ConfigNode::Kind::map;
    section.children.push_back(std::move(value));
    value = std::move(section);
  }
  return value;
}

bool is_dotted_key(const std::string& key) {
  const std::vector<std::string> parts = split(key, '.');
  return !parts.empty() && parts.size() <= static_cast<std::size_t>(kMaxYamlDepth) &&
         std::none_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty(); });
}

// The override "@configs/recipes/mix.yaml" applies every key of that file.
void apply_file(const std::string& argument, LoadedConfig& loaded) {
  Problems problems;
  const ConfigNode root = parse_yaml(read_config_file(argument.substr(1)), problems);
  Reader(loaded.source, problems, argument).read(root, "", loaded.config);
  for (Problem& problem : problems) {
    problem.argument = problem.line > 0 ? cat(argument, ":", problem.line) : argument;
    problem.line = 0;
  }
  append(loaded.problems, std::move(problems));
}

void apply_override(const std::string& argument, LoadedConfig& loaded) {
  if (argument.starts_with('@')) return apply_file(argument, loaded);
  const std::size_t equals = argument.find('=');
  std::string key = trim(argument.substr(0, equals));
  Problems problems;
  if (equals == std::string::npos || !is_dotted_key(key)) {
    key = argument;
    problems.push_back(
        {key, 0, "an override must be key=value, for example optim.lr=3e-4, or @FILE, a YAML file of keys"});
  } else {
    ConfigNode value = parse_yaml(argument.substr(equals + 1), problems);
    for (Problem& problem : problems) problem.key = key;
    if (problems.empty()) {
      Reader(loaded.source, problems, argument, key).read(nest(key, std::move(value)), "", loaded.config);
    }
  }
  for (Problem& problem : problems) problem.line = 0, problem.argument = argument;
  append(loaded.problems, std::move(problems));
}

// `key` without its last component: "a.b[1]" -> "a.b" -> "a" -> "".
std::string enclosing(const std::string& key) {
  const std::size_t end = key.find_last_of(".[");
  return end == std::string::npos ? "" : key.substr(0, end);
}

// A problem as it is shown. Problems are sorted by rank, then by line.
struct Located {
  int rank = 0;  // 0: the file as a whole, 1: a line, 2: an argument
  int line = 0;
  std::string text;
};

// The override that created `key` by setting something inside it, or "".
std::string argument_inside(const std::string& key, const ConfigSource& source) {
  const auto found = source.arguments.lower_bound(key + ".");
  return found != source.arguments.end() && found->first.starts_with(key + ".") ? found->second : "";
}

Located locate(const Problem& problem, const ConfigSource& source) {
  const std::string text = problem.key.empty() ? problem.text : cat(problem.key, ": ", problem.text);
  std::string argument = problem.argument;
  int line = problem.line;
  for (std::string key = problem.key; line == 0 && argument.empty() && !key.empty(); key = enclosing(key)) {
    if (const auto given = source.arguments.find(key); given != source.arguments.end()) {
      argument = given->second;
    } else if (const auto found = source.lines.find(key); found != source.lines.end()) {
      line = found->second;
    } else if (key == problem.key) {
      argument = argument_inside(key, source);
    }
  }
  if (!argument.empty()) {
    const bool named = argument.starts_with(problem.key);
    return {2, 0, cat("argument ", quote(argument), ": ", named ? problem.text : text)};
  }
  if (source.file.empty()) return {0, 0, text};
  if (line == 0) return {0, 0, cat(source.file, ": ", text)};
  return {1, line, cat(source.file, ":", line, ": ", text)};
}

}  // namespace

LoadedConfig parse_config(const std::string& text, const std::string& name) {
  LoadedConfig loaded;
  loaded.source.file = name;
  const ConfigNode root = parse_yaml(text, loaded.problems);
  Reader(loaded.source, loaded.problems).read(root, "", loaded.config);
  return loaded;
}

LoadedConfig load_config(const std::string& file, const std::vector<std::string>& overrides) {
  LoadedConfig loaded;
  if (!file.empty()) loaded = parse_config(read_config_file(file), file);
  for (const std::string& argument : overrides) apply_override(argument, loaded);
  return loaded;
}

std::vector<std::string> describe(const Problems& problems, const ConfigSource& source) {
  std::vector<Located> located;
  for (const Problem& problem : problems) located.push_back(locate(problem, source));
  std::stable_sort(located.begin(), located.end(), [](const Located& a, const Located& b) {
    return a.rank != b.rank ? a.rank < b.rank : a.line < b.line;
  });
  std::vector<std::string> lines;
  for (Located& one : located) lines.push_back(std::move(one.text));
  return lines;
}

}  // namespace norma
