#include "checked_config.h"

#include "norma/base/error.h"
#include "norma/model/init.h"

namespace norma {

CheckedConfig load_checked_config(const std::string& file, const std::vector<std::string>& overrides) {
  LoadedConfig loaded = load_config(file, overrides);
  Problems problems = loaded.problems;
  append(problems, validate(loaded.config));
  append(problems, check_init(loaded.config));
  CheckedConfig checked{loaded.config, loaded.source, {}};
  if (loaded.config.model.num_layers > 0) {
    checked.norms = make_norm_plan(loaded.config.norm, loaded.config.model.num_layers, problems);
  }
  if (!problems.empty()) {
    const std::vector<std::string> lines = describe(problems, loaded.source);
    const std::string count = lines.size() == 1 ? "one problem" : cat(lines.size(), " problems");
    throw ConfigError(cat("[config] ", count, " in the configuration:\n  ", join(lines, "\n  ")));
  }
  return checked;
}

}  // namespace norma
