// A config that every room has accepted.
#pragma once

#include <string>
#include <vector>

#include "norma/config/yaml.h"
#include "norma/norm/plan.h"

namespace norma {

struct CheckedConfig {
  RunConfig config;
  ConfigSource source;
  NormPlan norms;
};

// What the command is going to do: a model alone, or training, which also needs its data files and its device.
enum class Needs { model, training };

// Reads file and overrides and asks every validator; throws an Error that lists all problems, one a line: DataError
// when all that is wrong is a missing data file, else ConfigError. Warns of a warm-up that is longer than the run.
CheckedConfig load_checked_config(const std::string& file, const std::vector<std::string>& overrides,
                                  Needs needs = Needs::model);

// Warns of a warm-up that is longer than the run, as far as the config alone tells the run's length.
void warn_of_short_run(const CheckedConfig& checked);

// For a config that was loaded for its model alone: throws likewise when the data files or the device are missing.
void require_training(const CheckedConfig& checked);

}  // namespace norma
