// Checks of command-line options beyond those of CLI11.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/config/names.h"

namespace norma {

// low <= value <= high and a number: CLI::Range lets "nan" pass.
CLI::Validator finite_range(double low, double high);

// The enumerator of a word as in YAML; ConfigError with all of them: choice<Device>("eval", "--device", "tpu").
template <class E>
E choice(const char* command, const char* option, const std::string& word) {
  if (const auto value = parse_enum<E>(word)) return *value;
  const std::vector<std::string> names = enum_names<E>();
  throw ConfigError(cat("[", command, "] ", option, " must be one of ", join(names, ", "), "; got '", word, "'",
                        did_you_mean(word, names)));
}

// The two below check what an option names before hours of work are spent on it, and return its path without a slash at
// the end. Both throw ConfigError inside of a checkpoint, whose files must stay as they are. "" passes.
//
// A file to write: it is absent or a regular file, lies in a folder that exists, and is none of the command's `inputs`.
fs::path output_file(const char* command, const char* option, const std::string& file,
                     const std::vector<std::string>& inputs = {});
// A folder to make: it is absent or empty.
fs::path output_folder(const char* command, const char* option, const std::string& folder);

// Throws ConfigError when an option was given that means nothing beside `with`. Those in `allowed` go with it.
void refuse_other_options(const CLI::App& command, const std::string& with, const std::vector<std::string>& allowed);

// The message about a word of the command line that norma does not know, with the nearest one that it knows. "" when it
// knows every word.
std::string unknown_word(const CLI::App& app);

}  // namespace norma
