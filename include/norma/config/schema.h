// YAML in, YAML out, overrides, and the list of all keys.
//
// YAML is foreign text: at most 1 MiB, 64 levels and 20,000 nodes (aliases count each time they are used), no
// duplicate keys, no custom tags. Every mistake is reported, with file and line, before anything is used.
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
  Problems problems;  // of reading alone: syntax, unknown keys, wrong types; validate() is not called here
};

// Reads the file (none when empty) and applies overrides in order; the value of an override is itself YAML:
// "norm.layers={'0': {attention: {in: rms}}}", "eval.sets.books=[a.npy, b.npy]". A map given as a whole (norm.layers,
// eval.sets) takes the place of the one before, {} empties it; an entry named by its dotted key joins it.
// "@FILE" applies every key of another YAML file. Throws ConfigError naming the path when a file cannot be read at all.
LoadedConfig load_config(const std::string& file, const std::vector<std::string>& overrides);

// A config given as text, as a checkpoint carries it; `name` stands for the file in messages.
LoadedConfig parse_config(const std::string& text, const std::string& name);

// One line per problem: "file:line: key: text" or "argument 'key=value': text", sorted by line.
std::vector<std::string> describe(const Problems& problems, const ConfigSource& source);

// Every field with its value: reads back as the same config.
std::string to_yaml(const RunConfig& config);

// All keys with type, default and meaning, for people, 110 columns wide. `prefix` restricts the list ("norm",
// "train.z_loss"); a map's keys stand as <key>. Throws ConfigError when nothing is called `prefix`.
std::string list_keys(const std::string& prefix);

// A key whose value two configs disagree about; "absent" for an entry of a map that one of them lacks.
struct KeyDifference {
  std::string key, before, now;
};
std::vector<KeyDifference> differing_keys(const RunConfig& before, const RunConfig& now);

bool operator==(const RunConfig& a, const RunConfig& b);  // field by field

}  // namespace norma
