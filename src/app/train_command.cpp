// norma train: from a config to a run folder.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>

#include <ATen/Parallel.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/process.h"
#include "norma/config/names.h"
#include "norma/eval/evaluation.h"
#include "norma/model/init.h"
#include "norma/parallel/job.h"
#include "norma/parallel/sharding.h"
#include "norma/record/summary.h"
#include "norma/train/checkpointing.h"
#include "norma/train/session.h"
#include "norma/train/trainer.h"

#include "checked_config.h"
#include "commands.h"
#include "run_description.h"
#include "run_tokenizer.h"
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

BatchStreamOptions stream_options(const RunConfig& config, const LaunchEnvironment& launch = {}) {
  BatchStreamOptions options;
  options.rank = launch.rank;
  options.world_size = launch.world_size;
  options.seed = static_cast<std::uint64_t>(config.data.seed.value_or(config.run.seed));
  options.shuffle = config.data.shuffle;
  options.global_batch_size = config.train.global_batch_size;
  options.prefetch = config.data.prefetch;
  return options;
}

EvaluationInput open_evaluation_of(const CheckedConfig& checked) {
  return open_evaluation({.config = checked.config,
                          .find_tokenizer = [&] { return find_run_tokenizer("", checked.config, /*checkpoint=*/{}); },
                          .tokenizer_checksum = run_tokenizer_checksum(checked.config, {}),
                          .threads = at::get_num_threads(),
                          .warn = [](const std::string& line) { log_warning(line); }});
}

std::string device_text(const at::Device& device) {
  return device.is_cpu() ? cat("CPU, ", at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads")
                         : device.str();
}

// Fresh weights, or those of a checkpoint.
TrainState start_state(const CheckedConfig& checked, const RunPlan& plan, const TokenDataset& dataset, World& world,
                       Session& session) {
  const fs::path folder = run_folder_of(checked.config);
  const std::optional<fs::path> from = find_resume(checked.config.checkpoint, folder, world);
  if (!from) {
    session.engine->fill(InitialWeights(checked.config, checked.norms));
    log_info(cat("a fresh start, seed ", checked.config.run.seed));
    return {};
  }
  TrainState state = load_training(*from, plan, *session.engine, *session.optimizer, dataset.fingerprint());
  if (!fs::equivalent(fs::canonical(*from).parent_path(), folder)) {  // another run's time is not part of this one's
    state.seconds = 0.0;
    state.throughput = {};
  }
  log_info(cat("resuming at step ", state.step, " from ", from->string()));
  return state;
}

// The plan of a run whose data is open; what its length contradicts is a config error like any other.
RunPlan checked_plan(const CheckedConfig& checked, std::int64_t batches_per_epoch, const Degrees& degrees) {
  RunPlan plan = make_run_plan(checked.config, checked.norms, batches_per_epoch, degrees);
  const Problems problems = check_schedule(plan);
  if (!problems.empty()) throw ConfigError("[config] " + join(describe(problems, checked.source), "\n  "));
  return plan;
}

// Console lines come from the ranks that were asked for; every rank keeps a log file of its own.
void start_rank_log(const RunConfig& config, const LaunchEnvironment& launch, const fs::path& folder) {
  const std::vector<std::int64_t>& ranks = config.parallel.console_ranks;
  const bool shown = std::find(ranks.begin(), ranks.end(), launch.rank) != ranks.end();
  start_log(shown ? LogLevel::info : LogLevel::error, log_file(folder, launch.rank).string());
}

void log_start(const CheckedConfig& checked, const RunPlan& plan, const LaunchEnvironment& launch,
               const std::string& device, const TokenDataset& dataset) {
  log_info(cat(version_text(), " on ", device));
  if (launch.world_size > 1) {
    log_info(cat("rank ", launch.rank, " of ", launch.world_size, ", started by ", launcher_name(launch.launcher),
                 "; strategy ", enum_name(effective_strategy(checked.config.parallel, launch.world_size))));
  }
  log_info("run folder " + run_folder_of(checked.config).string());
  log_info("\n" + describe(plan));
  log_info(cat("data: ", with_commas(dataset.num_tokens()), " tokens in ", dataset.num_files(), " files, ",
               with_commas(dataset.num_instances()), " instances of ", dataset.sequence_length()));
  const EvalConfig& eval = checked.config.eval;
  if (eval.every > 0 && eval.sets.empty() && eval.tasks.empty()) {
    log_warning("eval.every is set, but eval.sets and eval.tasks are empty: nothing will be evaluated");
  }
}

Summary summary_of(const RunPlan& plan, const RunSummary& run, const at::Device& device) {
  Summary summary;
  summary.name = plan.config.run.name;
  summary.preset = plan.config.norm.preset;
  summary.parameters = plan.cost.parameters;
  summary.outcome = run.outcome;
  summary.step = run.state.step;
  summary.max_steps = plan.max_steps;
  summary.tokens = run.state.position.tokens;
  summary.final_loss = run.state.final_loss;
  summary.best_loss = run.state.best_loss;
  summary.validation = run.state.validation;
  summary.seconds = run.state.seconds;
  summary.training_seconds = run.state.throughput.seconds;
  summary.training_tokens = run.state.throughput.tokens;
  summary.tokens_per_second = run.state.throughput.tokens_per_second();
  summary.flops_per_token_causal = plan.cost.flops_causal;
  summary.flops_per_token_full = plan.cost.flops_full;
  summary.peak_memory_bytes = peak_memory(device);
  return summary;
}

int end_training(const RunPlan& plan, const RunSummary& summary, const at::Device& device, RunFolder* folder) {
  if (folder != nullptr && (summary.changed || !fs::exists(folder->path() / kSummaryFile))) {
    write_summary(folder->path(), summary_of(plan, summary, device));
  }
  const bool finished = summary.outcome == Outcome::finished;
  log_info(cat(finished ? "finished" : "stopped", " at step ", summary.state.step, " of ", plan.max_steps, " after ",
               human_seconds(summary.state.seconds), "; summary in ",
               (run_folder_of(plan.config) / kSummaryFile).string()));
  if (!finished) log_info("run the same command again to go on from here");
  return static_cast<int>(finished ? ExitCode::done : ExitCode::stopped_early);
}

// Rank 0's run folder, which every rank must see: its files go there.
std::unique_ptr<RunFolder> open_run_folder(const RunConfig& config, World& world) {
  const fs::path path = run_folder_of(config);
  std::unique_ptr<RunFolder> folder;
  const std::string mark = world.on_first([&] {
    folder = std::make_unique<RunFolder>(path);
    return folder->mark();
  });
  if (!has_mark(path, mark)) {
    throw DiskError(cat("[run.folder] rank ", world.rank(), " does not see what rank 0 wrote into ", path.string(),
                        "; it must lie on a file system that all hosts share"));
  }
  return folder;
}

// The part of a run in which the processes depend on each other.
int train_together(CheckedConfig checked, const CommandContext& context, const LaunchEnvironment& launch,
                   at::Device device, World& world, const std::atomic<bool>& stop) {
  const RunConfig& config = checked.config;
  const auto dataset = open_tokens(checked, config.data.paths, "data.paths");
  BatchStream stream(dataset, stream_options(config, launch));
  const EvaluationInput evaluation = open_evaluation_of(checked);
  RunPlan plan = checked_plan(checked, stream.batches_per_epoch(), mesh_degrees(config.parallel, launch));
  check_agreement(config, dataset->fingerprint() + " " + fingerprint(evaluation), world);
  const std::unique_ptr<RunFolder> folder = open_run_folder(config, world);
  start_rank_log(config, launch, run_folder_of(config));
  if (config.train.max_duration.unit == DurationUnit::minutes) {
    world.start_training();  // steps are measured under the time limit of training, not that of the start
    checked.config.train.max_duration = measured_length(plan, run_folder_of(config), device, world);
    warn_of_short_run(checked);
    plan = checked_plan(checked, stream.batches_per_epoch(), mesh_degrees(config.parallel, launch));
  }
  log_start(checked, plan, launch, device_text(device), *dataset);
  Session session = make_session(config, checked.norms, device, Purpose::training, world);
  const TrainState start = start_state(checked, plan, *dataset, world, session);
  std::optional<MetricsWriter> metrics;
  if (folder) {
    write_description(folder->path(), describe_run(checked, plan, context.arguments, device_text(device)));
    metrics.emplace(folder->path(), MetricsOptions{start.step, config.metrics.tensorboard});
  }
  Trainer trainer(plan,
                  {.model = *session.model,
                   .engine = *session.engine,
                   .optimizer = *session.optimizer,
                   .world = world,
                   .stream = stream,
                   .metrics = metrics ? &*metrics : nullptr,
                   .evaluation = evaluation,
                   .device = device,
                   .checkpoints = run_folder_of(config),
                   .data_fingerprint = dataset->fingerprint()},
                  start);
  const auto train = [&] {
    world.start_training();
    const RunSummary summary = trainer.run(stop);
    const int code = end_training(plan, summary, device, folder.get());
    world.barrier("the end");
    return code;
  };
  if (world.size() == 1) return train();
  try {
    return train();
  } catch (...) {
    leave(world, std::current_exception());
  }
}

int run_training(const TrainArguments& arguments, const CommandContext& context) {
  const std::atomic<bool>& stop =
      stop_on_signals("stopping after this step, with a checkpoint; once more to leave at once");
  const LaunchEnvironment launch = read_launch_environment();
  // Several processes meet before they look at files, so that one that lacks a file can tell the others.
  const Needs first_needs = launch.world_size == 1 ? Needs::training : Needs::model;
  const CheckedConfig checked = load_checked_config(arguments.config, arguments.overrides, first_needs);
  const at::Device device = start_runtime(checked.config.run, launch);
  const std::unique_ptr<World> world = make_world(checked.config.parallel, launch, device);
  if (world->size() == 1) return train_together(checked, context, launch, device, *world, stop);
  try {
    require_training(checked);
    return train_together(checked, context, launch, device, *world, stop);
  } catch (...) {
    leave(*world, std::current_exception());
  }
}

void print_dry_run(const CheckedConfig& checked) {
  std::int64_t batches_per_epoch = 0;
  if (!checked.config.data.paths.empty()) {
    const auto dataset = open_tokens(checked, checked.config.data.paths, "data.paths");
    batches_per_epoch = BatchStream(dataset, stream_options(checked.config)).batches_per_epoch();
    open_evaluation_of(checked);
  }
  const RunPlan plan = checked_plan(checked, batches_per_epoch, /*degrees=*/{});
  std::printf("%s\n%s", to_yaml(checked.config).c_str(), describe(plan).c_str());
}

}  // namespace

void add_train_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("train", "Train a model from a YAML config.");
  const auto arguments = std::make_shared<TrainArguments>();
  command->add_option("config", arguments->config, "YAML file; a key that it leaves out keeps its default");
  command->add_option("overrides", arguments->overrides,
                      "key=value or @FILE (a recipe, for example), applied in order on top of the file");
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
    if (arguments->dry_run) {
      print_dry_run(load_checked_config(arguments->config, arguments->overrides));
      return;
    }
    context.exit_code = run_training(*arguments, context);
  });
}

}  // namespace norma
