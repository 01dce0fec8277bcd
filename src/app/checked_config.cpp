#include "checked_config.h"

#include <set>

#include "norma/base/error.h"
#include "norma/model/init.h"

namespace norma {
namespace {

constexpr std::int64_t kMaxLayers = 10'000;  // validate() refuses more

// A value that could not be read keeps its default: what a validator then says of it would only confuse.
void append_news(Problems& problems, const Problems& found) {
  std::set<std::string> known;
  for (const Problem& problem : problems) known.insert(problem.key);
  for (const Problem& problem : found) {
    if (known.count(problem.key) == 0) problems.push_back(problem);
  }
}

}  // namespace

CheckedConfig load_checked_config(const std::string& file, const std::vector<std::string>& overrides) {
  LoadedConfig loaded = load_config(file, overrides);
  Problems problems = loaded.problems;
  Problems found = validate(loaded.config);
  CheckedConfig checked{loaded.config, loaded.source, {}};
  const std::int64_t layers = loaded.config.model.num_layers;
  if (layers > 0 && layers <= kMaxLayers) checked.norms = make_norm_plan(loaded.config.norm, layers, found);
  append(found, check_init(loaded.config));
  append_news(problems, found);
  if (!problems.empty()) {
    const std::vector<std::string> lines = describe(problems, loaded.source);
    const std::string count = lines.size() == 1 ? "one problem" : cat(lines.size(), " problems");
    throw ConfigError(cat("[config] ", count, " in the configuration:\n  ", join(lines, "\n  ")));
  }
  return checked;
}

TokenDatasetOptions token_options(const RunConfig& config, const std::vector<std::string>& paths,
                                  const std::string& key) {
  TokenDatasetOptions options;
  options.paths = paths;
  options.dtype = config.data.dtype;
  options.sequence_length = config.model.sequence_length;
  options.id_bound = config.model.vocab_size;
  options.key = key;
  return options;
}

}  // namespace norma
