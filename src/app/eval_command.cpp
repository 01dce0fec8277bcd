// norma eval: perplexity and downstream tasks of a checkpoint or of a Hugging Face folder.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include <ATen/Parallel.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/process.h"
#include "norma/eval/evaluation.h"
#include "norma/eval/tasks.h"
#include "norma/parallel/job.h"
#include "norma/parallel/launch.h"
#include "norma/study/compare.h"
#include "norma/study/report.h"
#include "norma/train/session.h"

#include "checkpoint_model.h"
#include "commands.h"
#include "option_checks.h"
#include "run_tokenizer.h"

namespace norma {
namespace {

struct EvalArguments {
  std::string model, tokenizer, device = "auto", precision, dtype, out, predictions;
  std::vector<std::string> tasks, sets, compare;
  std::string metric;  // of a comparison
  // What is not given here is taken from the config of the run.
  std::optional<std::string> data;
  std::optional<std::int64_t> documents, instances, batch_tokens, batch_size, context_length;
  std::int64_t instance_length = 0;  // 0: the model's
  std::int64_t threads = 0;
  bool list = false, shard = false, reuse_context = false, by_instance_only = false;
};

// "label=path" of --perplexity; a label may come again with another file.
void add_set(const std::string& text, EvalConfig& eval) {
  const std::size_t sign = text.find('=');
  if (sign == std::string::npos || sign == 0 || sign + 1 == text.size()) {
    throw ConfigError(
        cat("[eval] --perplexity needs label=FILE, for example books=data/books-*.npy; got '", text, "'"));
  }
  eval.sets[text.substr(0, sign)].push_back(text.substr(sign + 1));
}

// What is to be measured, and how: what the command line says, else what the run measures itself.
EvalConfig evaluation_of(const EvalArguments& arguments, const RunConfig& run) {
  EvalConfig eval = run.eval;
  if (!arguments.tasks.empty() || !arguments.sets.empty()) {
    eval.tasks = arguments.tasks;
    eval.sets.clear();
    for (const std::string& set : arguments.sets) add_set(set, eval);
  }
  if (eval.tasks.empty() && eval.sets.empty()) {
    throw ConfigError(
        "[eval] what is to be measured? --tasks 'hellaswag,arc_*' (--list shows all), or --perplexity "
        "books=data/books-*.npy; the run's own config names nothing");
  }
  eval.task_data = arguments.data.value_or(eval.task_data);
  eval.task_documents = arguments.documents.value_or(eval.task_documents);
  eval.max_instances = arguments.instances.value_or(eval.max_instances);
  eval.batch_tokens = arguments.batch_tokens.value_or(eval.batch_tokens);
  eval.batch_size = arguments.batch_size.value_or(eval.batch_size);
  eval.context_length = arguments.context_length.value_or(eval.context_length);
  eval.reuse_context = eval.reuse_context || arguments.reuse_context;
  eval.by_document = !arguments.by_instance_only;
  return eval;
}

// What is being measured, and how long the rest will take by the share of tokens that is done.
class EvalProgress {
 public:
  EvalProgress(const EvaluationInput& input, const EvalConfig& config) {
    const auto add = [this](const std::string& name, std::int64_t tokens) {
      parts_.push_back({name, static_cast<double>(tokens)});
      total_ += static_cast<double>(tokens);
    };
    for (const EvalSet& set : input.sets) {
      const std::int64_t all = set.dataset->num_instances();
      add(set.label,
          (config.max_instances > 0 ? std::min(all, config.max_instances) : all) * set.dataset->sequence_length());
      if (set.documents) add(set.label + " by document", std::ssize(set.documents->ids));
    }
    for (const TokenizedTask& task : input.tasks) {
      std::size_t tokens = 0;
      std::int64_t documents = 0;
      for (std::size_t i = 0; i < task.requests.size(); ++i) {
        if (i == 0 || task.requests[i].document != task.requests[i - 1].document) ++documents;
        if (config.task_documents > 0 && documents > config.task_documents) break;
        tokens += task.requests[i].context.size + task.requests[i].text.size;
      }
      add(task.name, static_cast<std::int64_t>(tokens));
    }
  }

  // Parts come in the order in which they were counted.
  void show(const std::string& what, std::int64_t done, std::int64_t total) {
    for (; next_ < parts_.size() && parts_[next_].name != what; ++next_) finished_ += parts_[next_].tokens;
    const double part = static_cast<double>(done) / static_cast<double>(total);
    const bool ends = done == total;
    if (!line_.on_terminal() && !ends) return;
    const double share = (finished_ + part * parts_[next_].tokens) / total_;
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start_;
    line_.update(cat(what, "  ", with_commas(done), "/", with_commas(total), "  all ", fixed(100.0 * share, 0),
                     "%  ETA ", human_seconds(spent.count() * (1.0 - share) / share)));
  }

  void finish() { line_.finish(); }

 private:
  struct Part {
    std::string name;
    double tokens = 0.0;
  };
  std::vector<Part> parts_;
  std::size_t next_ = 0;
  double total_ = 0.0, finished_ = 0.0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  ProgressLine line_;
};

void check_outputs(const EvalArguments& arguments) {
  output_file("eval", "--out", arguments.out);
  output_file("eval", "--predictions", arguments.predictions);
  if (!arguments.out.empty() && fs::weakly_canonical(arguments.out) == fs::weakly_canonical(arguments.predictions)) {
    throw ConfigError("[eval] --out and --predictions must be two files; got " + arguments.out + " for both");
  }
}

// Prints the results and writes what was asked for: predictions first, because the results name them.
void show_and_write(const EvalArguments& arguments, const EvaluationResult& result, const EvaluatedModel& model) {
  EvaluationRecord results = results_of(result, model);
  std::printf("%s", results_table(results).c_str());
  std::fflush(stdout);
  if (!arguments.predictions.empty()) write_predictions(arguments.predictions, predictions_of(result, model));
  if (arguments.out.empty()) return;
  if (!arguments.predictions.empty()) {
    const fs::path folder = fs::absolute(arguments.out).parent_path();
    results.predictions = fs::proximate(fs::absolute(arguments.predictions), folder).string();
  }
  write_results(arguments.out, results);
}

// The settings of this process, before the model is known.
RunSettings runtime_of(const EvalArguments& arguments) {
  RunSettings run;
  run.device = choice<Device>("eval", "--device", arguments.device);
  run.threads = arguments.threads;
  return run;
}

// How the evaluation is spread over processes, whatever the training did.
ParallelConfig parallel_of(const EvalArguments& arguments) {
  ParallelConfig parallel;
  parallel.strategy = arguments.shard ? Strategy::automatic : Strategy::ddp;
  return parallel;
}

void check_instance_length(const EvalArguments& arguments, const ModelConfig& model) {
  const std::int64_t length = arguments.instance_length;
  if (length == 0 || (length >= 2 && length <= model.sequence_length)) return;
  throw ConfigError(cat("[eval] --instance-length must be 2 to ", model.sequence_length,
                        ", the tokens that this model sees, or 0 for all of them; got ", length));
}

// The model as the command line wants it run. Rank 0 says which checkpoint is the newest: a training may go on.
ModelSource find_source(const EvalArguments& arguments, World& world) {
  std::optional<ModelSource> found;
  const std::string folder = world.on_first([&] {
    found = find_model(arguments.model);
    return found->folder.string();
  });
  ModelSource source = found ? std::move(*found) : find_model(folder);
  RunConfig& config = source.config;
  config.eval = evaluation_of(arguments, config);
  config.run.device = runtime_of(arguments).device;
  config.run.threads = arguments.threads;
  if (!arguments.precision.empty()) config.precision = choice<Precision>("eval", "--precision", arguments.precision);
  if (!arguments.dtype.empty()) config.data.dtype = choice<TokenDtype>("eval", "--dtype", arguments.dtype);
  config.parallel = parallel_of(arguments);
  check_instance_length(arguments, config.model);
  std::vector<std::string> lines;
  for (const Problem& problem : validate(config)) lines.push_back(cat("[", problem.key, "] ", problem.text));
  if (!lines.empty()) throw ConfigError(join(lines, "\n  "));
  return source;
}

int evaluate_together(const EvalArguments& arguments, at::Device device, World& world, const std::atomic<bool>& stop) {
  if (!world.is_first()) start_log(LogLevel::error, "");  // one voice is enough
  const ModelSource source = find_source(arguments, world);
  const RunConfig& config = source.config;
  choose_kernels(config.run);
  EvaluatedModel model{.path = source.folder.string(),
                       .step = source.step,
                       .precision = std::string(enum_name(config.precision)),
                       .tokenizer_checksum = "",
                       .context_length = context_length_of(config.eval, config.model)};
  const auto find_tokenizer = [&] {
    FoundTokenizer found = find_run_tokenizer(arguments.tokenizer, config, source.folder);
    model.tokenizer_checksum = found.tokenizer.checksum();
    return found;
  };
  const EvaluationInput input = open_evaluation({.config = config,
                                                 .find_tokenizer = find_tokenizer,
                                                 .tokenizer_is_named = !arguments.tokenizer.empty(),
                                                 .tokenizer_checksum = run_tokenizer_checksum(config, source.folder),
                                                 .instance_length = arguments.instance_length,
                                                 .threads = at::get_num_threads(),
                                                 .warn = [](const std::string& line) { log_warning(line); }});
  check_agreement(config, fingerprint(input), world);
  Session session = load_model(source, device, world);
  world.start_training();  // its time-outs are those of work
  EvalProgress progress(input, config.eval);
  const EvaluationOptions options{device, config.train.loss_chunk,
                                  [&](const std::string& what, std::int64_t done, std::int64_t total) {
                                    if (world.is_first()) progress.show(what, done, total);
                                    return !stop;
                                  }};
  const EvaluationResult result = evaluate(*session.model, *session.engine, input, config.eval, world, options);
  progress.finish();
  if (!result.complete) {
    log_info("stopped; nothing was written");
    return stopped_exit_code();
  }
  if (world.is_first()) show_and_write(arguments, result, model);
  world.barrier("the end");
  return 0;
}

int run_eval(const EvalArguments& arguments) {
  if (arguments.model.empty()) {
    throw ConfigError("[eval] which model? For example: norma eval runs/tiny --tasks hellaswag");
  }
  check_outputs(arguments);
  const std::atomic<bool>& stop = stop_on_signals("stopping");
  const LaunchEnvironment launch = read_launch_environment();
  // Several processes meet before they look at files, so that one that lacks a file can tell the others.
  const at::Device device = start_runtime(runtime_of(arguments), launch);
  const std::unique_ptr<World> world = make_world(parallel_of(arguments), launch, device);
  if (world->size() == 1) return evaluate_together(arguments, device, *world, stop);
  try {
    return evaluate_together(arguments, device, *world, stop);
  } catch (...) {
    leave(*world, std::current_exception());
  }
}

void run_compare(const EvalArguments& arguments) {
  output_file("eval", "--out", arguments.out, arguments.compare);
  CompareInput input{{arguments.compare.begin(), arguments.compare.end()}, arguments.metric};
  const Comparison comparison = compare_predictions(input);
  if (!arguments.out.empty()) write_json(arguments.out, to_json(comparison));
  std::printf("%s", compare_table(comparison).c_str());
}

void add_measures(CLI::App& command, EvalArguments& arguments) {
  command.add_option("--tasks", arguments.tasks, "names and globs, 'hellaswag,arc_*'; may be given again")
      ->allow_extra_args(false);
  command
      .add_option("--perplexity", arguments.sets,
                  "label=FILE: a validation set of token files (.npy; globs) or text files; may be given again")
      ->allow_extra_args(false);
  command.add_option("--data", arguments.data, "folder that scripts/fetch_eval_data.sh made");
  command.add_option("--documents", arguments.documents, "at most this many documents of each task; 0: all")
      ->check(CLI::Range(0, 1 << 30));
  command.add_option("--instances", arguments.instances, "at most this many instances of each set; 0: all")
      ->check(CLI::Range(0, 1 << 30));
  command.add_option("--batch-tokens", arguments.batch_tokens, "tokens per forward of a task, padding included")
      ->check(CLI::Range(1, 1 << 30));
  command.add_option("--batch-size", arguments.batch_size, "instances of a set per forward")
      ->check(CLI::Range(1, 1 << 20));
  command
      .add_option("--context-length", arguments.context_length,
                  "tokens at the end of a request that are kept, at most as many as the model sees")
      ->check(CLI::Range(2, 1 << 24));
  command
      .add_option("--instance-length", arguments.instance_length,
                  "tokens of an instance of a set; 0: as many as the model sees")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 24));
  command.add_option("--dtype", arguments.dtype, "of token files without a sidecar: uint16 or uint32");
  command.add_flag("--by-instance-only", arguments.by_instance_only, "do not score sets document by document too");
  command.add_flag("--reuse-context", arguments.reuse_context,
                   "run the context that the continuations of a question share only once");
}

void add_compare(CLI::App& command, EvalArguments& arguments) {
  command.add_option("--compare", arguments.compare,
                     "instead: compare the predictions of two or more evaluations (their JSON lines, or results that "
                     "name them), all with the first, document by document");
  command.add_option("--metric", arguments.metric, "of --compare: for every task; default: each task's own")
      ->needs("--compare");
}

}  // namespace

void add_eval_command(CLI::App& app, CommandContext& context) {
  CLI::App* command =
      app.add_subcommand("eval", "Measure a model: downstream tasks, and perplexity on tokens or text.");
  const auto arguments = std::make_shared<EvalArguments>();
  command->add_option("model", arguments->model,
                      "run folder (its newest checkpoint), step-N folder or Hugging Face folder");
  add_measures(*command, *arguments);
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json; default: the model's own, found again");
  command->add_option("--out", arguments->out, "write the results here, as JSON");
  command->add_option("--predictions", arguments->predictions, "write every document's scores here, as JSON lines");
  command->add_option("--precision", arguments->precision, "fp32, bf16 or fp64; default: the run's own");
  command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--threads", arguments->threads, "0: every core")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_flag("--shard", arguments->shard,
                    "spread the weights over the processes, for models that fit none alone");
  add_compare(*command, *arguments);
  command->add_flag("--list", arguments->list, "list every task with its metric and source, and stop");
  command->footer(
      "Examples: norma eval runs/tiny --tasks 'hellaswag,arc_*,mmlu_*_var' --out results.json\n"
      "          norma eval models/OLMo-2-0425-1B --tasks piqa --perplexity books=books.jsonl.zst\n"
      "          norma eval --compare first.json second.json\n"
      "          torchrun --no-python --nproc-per-node=8 norma eval runs/1b --tasks hellaswag --predictions a.jsonl");
  command->callback([arguments, command, &context] {
    if (arguments->list) {
      refuse_other_options(*command, "--list", {});
      std::printf("%s", task_listing().c_str());
    } else if (!arguments->compare.empty()) {
      refuse_other_options(*command, "--compare", {"--metric", "--out"});
      run_compare(*arguments);
    } else {
      context.exit_code = run_eval(*arguments);
    }
  });
}

}  // namespace norma
