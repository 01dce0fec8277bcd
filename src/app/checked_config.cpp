#include "checked_config.h"

#include <set>

#include <torch/cuda.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/config/names.h"
#include "norma/data/token_file.h"
#include "norma/model/init.h"
#include "norma/parallel/launch.h"
#include "norma/train/run_plan.h"

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

Problems problems_of_training(const RunConfig& config) {
  Problems problems;
  if (config.data.paths.empty()) {
    problems.push_back({"data.paths", 0, "must name at least one token file (norma prepare makes them); got none"});
  }
  if (config.run.device == Device::cuda && !torch::cuda::is_available()) {
    problems.push_back(
        {"run.device", 0, "cuda needs a GPU and a CUDA build, and none was found; allowed here: auto, cpu"});
  }
  return problems;
}

Problems missing_files(const RunConfig& config) {
  Problems problems = missing_token_files(config.data.paths, "data.paths");
  for (const auto& [label, paths] : config.eval.sets)
    append(problems, missing_token_files(paths, "eval.sets." + label));
  return problems;
}

[[noreturn]] void report(const Problems& problems, const ConfigSource& source, bool only_data) {
  const std::vector<std::string> lines = describe(problems, source);
  const std::string count = lines.size() == 1 ? "one problem" : cat(lines.size(), " problems");
  const std::string text = cat("[config] ", count, " in the configuration:\n  ", join(lines, "\n  "));
  if (only_data) throw DataError(text);
  throw ConfigError(text);
}

// Throws when there are problems, or when a training run lacks something.
void require(Problems problems, const CheckedConfig& checked, Needs needs) {
  if (needs == Needs::training) append_news(problems, problems_of_training(checked.config));
  const bool only_data = problems.empty();
  if (needs == Needs::training) append_news(problems, missing_files(checked.config));
  if (!problems.empty()) report(problems, checked.source, only_data);
}

}  // namespace

void warn_of_short_run(const CheckedConfig& checked) {
  const ScheduleConfig& schedule = checked.config.schedule;
  const RunPlan plan = make_run_plan(checked.config, checked.norms, /*batches_per_epoch=*/0);
  const std::int64_t length = schedule.units == ScheduleUnits::tokens ? plan.max_tokens : plan.max_steps;
  if (length == 0 || schedule.warmup <= length || read_launch_environment().rank > 0) return;
  log_warning(cat("schedule.warmup is ", with_commas(schedule.warmup), " ", enum_name(schedule.units),
                  ", the whole run only ", with_commas(length), ": the learning rate never reaches its peak"));
}

CheckedConfig load_checked_config(const std::string& file, const std::vector<std::string>& overrides, Needs needs) {
  if (file.empty()) throw ConfigError("[config] which config? For example: configs/tiny.yaml");
  LoadedConfig loaded = load_config(file, overrides);
  Problems found = validate(loaded.config);
  CheckedConfig checked{loaded.config, loaded.source, {}};
  const std::int64_t layers = loaded.config.model.num_layers;
  if (layers > 0 && layers <= kMaxLayers)
    checked.norms = make_norm_plan(loaded.config.norm, loaded.config.model, found);
  append(found, check_init(loaded.config.init, checked.norms));
  if (found.empty()) {
    append(found, check_freeze(model_parameters(loaded.config.model, checked.norms), loaded.config.train.freeze));
  }
  append_news(loaded.problems, found);
  require(loaded.problems, checked, needs);
  warn_of_short_run(checked);
  return checked;
}

void require_training(const CheckedConfig& checked) {
  require({}, checked, Needs::training);
}

}  // namespace norma
