// norma train: from a config to a run folder.
#include <algorithm>
#include <cstdio>
#include <memory>

#include <ATen/Parallel.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/train/checkpointing.h"
#include "norma/train/initial_weights.h"

#include "checked_config.h"
#include "commands.h"
#include "run_folder.h"
#include "session.h"
#include "signals.h"
#include "version.h"

namespace norma {
namespace {

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  bool dry_run = false;
  bool list_keys = false;
};

std::shared_ptr<const TokenDataset> open_tokens(const CheckedConfig& checked, const std::vector<std::string>& paths,
                                                const std::string& key) {
  return std::make_shared<const TokenDataset>(token_options(checked.config, paths, key));
}

BatchStreamOptions stream_options(const RunConfig& config) {
  BatchStreamOptions options;
  options.seed = static_cast<std::uint64_t>(config.data.seed.value_or(config.run.seed));
  options.shuffle = config.data.shuffle;
  options.global_batch_size = config.train.global_batch_size;
  options.prefetch = config.data.prefetch;
  return options;
}

std::vector<EvalSet> open_eval_sets(const CheckedConfig& checked) {
  std::vector<EvalSet> sets;
  for (const auto& [label, paths] : checked.config.eval.sets) {
    sets.push_back({label, open_tokens(checked, paths, "eval.sets." + label)});
  }
  return sets;
}

std::string device_text(const at::Device& device) {
  return device.is_cpu() ? cat("CPU, ", at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads")
                         : device.str();
}

// Fresh weights, or those of a checkpoint.
TrainState start_state(const CheckedConfig& checked, const RunPlan& plan, const fs::path& folder, Session& session) {
  const std::optional<fs::path> from = find_resume(checked.config.checkpoint, folder);
  if (!from) {
    draw_initial_weights(checked.config, checked.norms, *session.engine);
    log_info(cat("a fresh start, seed ", checked.config.run.seed));
    return {};
  }
  const TrainState state = load_training(*from, plan, *session.engine, *session.optimizer);
  log_info(cat("resuming at step ", state.step, " from ", from->string()));
  return state;
}

// The plan of a run whose data is open; what its length contradicts is a config error like any other.
RunPlan checked_plan(const CheckedConfig& checked, std::int64_t batches_per_epoch) {
  RunPlan plan = make_run_plan(checked.config, checked.norms, batches_per_epoch);
  const Problems problems = check_schedule(plan);
  if (!problems.empty()) throw ConfigError("[config] " + join(describe(problems, checked.source), "\n  "));
  return plan;
}

int run_training(const CheckedConfig& checked, const CommandContext& context) {
  const at::Device device = start_runtime(checked.config.run);
  const auto dataset = open_tokens(checked, checked.config.data.paths, "data.paths");
  BatchStream stream(dataset, stream_options(checked.config));
  const std::vector<EvalSet> eval_sets = open_eval_sets(checked);
  const RunPlan plan = checked_plan(checked, stream.batches_per_epoch());

  RunFolder folder(run_folder_of(checked.config));
  start_log(LogLevel::info, (folder.path() / "logs" / "rank0.log").string());
  log_info(cat(version_text(), " on ", device_text(device)));
  log_info("run folder " + folder.path().string());
  log_info("\n" + describe(plan));
  log_info(cat("data: ", with_commas(dataset->num_tokens()), " tokens in ", dataset->num_files(), " files, ",
               with_commas(dataset->num_instances()), " instances of ", dataset->sequence_length()));

  if (checked.config.eval.every > 0 && eval_sets.empty()) {
    log_warning("eval.every is set, but eval.sets is empty: nothing will be evaluated");
  }
  Session session = make_session(checked.config, checked.norms, device, Purpose::training);
  const TrainState start = start_state(checked, plan, folder.path(), session);
  folder.write_description(checked, plan, context.arguments, device_text(device));
  MetricsWriter metrics(folder.path(), {start.step, checked.config.metrics.tensorboard});
  Trainer trainer(
      plan, {*session.model, *session.engine, *session.optimizer, stream, metrics, eval_sets, device, folder.path()},
      start);
  const RunSummary summary =
      trainer.run(stop_on_signals("stopping after this step, with a checkpoint; once more to leave at once"));
  if (summary.steps_here > 0 || !fs::exists(folder.path() / "summary.json")) folder.write_summary(plan, summary);
  const bool finished = summary.outcome == Outcome::finished;
  log_info(cat(finished ? "finished" : "stopped", " at step ", summary.state.step, " of ", plan.max_steps, " after ",
               human_seconds(summary.seconds), "; summary in ", (folder.path() / "summary.json").string()));
  if (!finished) log_info("run the same command again to go on from here");
  return static_cast<int>(finished ? ExitCode::done : ExitCode::stopped_early);
}

void print_dry_run(const CheckedConfig& checked) {
  std::int64_t batches_per_epoch = 0;
  if (!checked.config.data.paths.empty()) {
    const auto dataset = open_tokens(checked, checked.config.data.paths, "data.paths");
    batches_per_epoch = BatchStream(dataset, stream_options(checked.config)).batches_per_epoch();
    open_eval_sets(checked);
  }
  const RunPlan plan = checked_plan(checked, batches_per_epoch);
  std::printf("%s\n%s", to_yaml(checked.config).c_str(), describe(plan).c_str());
}

}  // namespace

void add_train_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("train", "Train a model from a YAML config.");
  const auto arguments = std::make_shared<TrainArguments>();
  command->add_option("config", arguments->config, "YAML file; a key that it leaves out keeps its default");
  command->add_option("overrides", arguments->overrides, "key=value, applied in order on top of the file");
  command->add_flag("--dry-run", arguments->dry_run,
                    "print the resolved config, the norm plan and the run plan, then stop");
  command->add_flag("--keys", arguments->list_keys,
                    "list every key with type, default and meaning; a key as argument restricts the list");
  command->footer(
      "Example: norma train configs/tiny.yaml data.paths=data/train-*.npy norm.preset=pre run.name=tiny-pre\n"
      "         norma train --keys norm");
  command->callback([arguments, &context] {
    if (arguments->list_keys) {
      std::printf("%s", list_keys(arguments->config).c_str());
      return;
    }
    if (arguments->config.empty())
      throw ConfigError("[train] which config? For example: norma train configs/tiny.yaml");
    const CheckedConfig checked = load_checked_config(arguments->config, arguments->overrides);
    if (arguments->dry_run) {
      print_dry_run(checked);
      return;
    }
    context.exit_code = run_training(checked, context);
  });
}

}  // namespace norma
