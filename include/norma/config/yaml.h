// Configs as YAML: reading with overrides, writing, comparing, and the list of all keys.
//
// A config file is foreign text: at most 1 MiB, 64 levels and 20,000 nodes (an alias counts each time it is used), with
// no duplicate keys and no custom tags. Every mistake is reported with file and line before anything is used.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "norma/config/config.h"

namespace norma {

// Where each value came from, so that a problem found later can still name its line.
struct ConfigSource {
  std::string file;                              // "" when there was no file
  std::map<std::string, int> lines;              // dotted key -> line in the file
  std::map<std::string, std::string> arguments;  // dotted key -> the override as typed: "train.z_loss=1e-4"
};

struct LoadedConfig {
  RunConfig config;
  ConfigSource source;
  Problems problems;  // found while reading: syntax, unknown keys, wrong types. validate() is not called.
};

// Reads `file` (no file when it is empty) and applies the overrides in order. An override is key=value, and its value
// is YAML too: "norm.layers={'0': {attention: {in: rms}}}", "eval.sets.books=[a.npy, b.npy]". A map that is given as a
// whole (norm.layers, eval.sets) replaces the map from before, and {} empties it; a dotted key adds or changes one
// entry. The override "@FILE" applies every key of another YAML file. Throws ConfigError naming the path when a file
// cannot be read at all.
LoadedConfig load_config(const std::string& file, const std::vector<std::string>& overrides);

// Reads a config given as text, as a checkpoint holds it. `name` stands for the file in messages.
LoadedConfig parse_config(const std::string& text, const std::string& name);

// One line per problem, sorted by line: "file:line: key: text" or "argument 'key=value': text".
std::vector<std::string> describe(const Problems& problems, const ConfigSource& source);

// Every field with its value. Reading this text gives the same config.
std::string to_yaml(const RunConfig& config);

// All keys with type, default and meaning, as text of 110 columns. `prefix` restricts the list ("norm",
// "train.z_loss"); the keys of a map are written <key>. Throws ConfigError when no key starts with `prefix`.
std::string list_keys(const std::string& prefix);

// Whether the dotted `key` is `section` or inside it: "model.moe.top_k" is inside "model" and "model.moe".
bool is_inside(const std::string& key, const std::string& section);

// Every key with its value as YAML writes it. An entry of a map stands under its dotted key.
std::map<std::string, std::string> values_by_key(const RunConfig& config);

// A key that has different values in two configs; the value is "absent" where a map lacks the entry.
struct KeyDifference {
  std::string key, before, now;
};
std::vector<KeyDifference> differing_keys(const RunConfig& before, const RunConfig& now);

bool operator==(const RunConfig& a, const RunConfig& b);  // compares every field

}  // namespace norma
