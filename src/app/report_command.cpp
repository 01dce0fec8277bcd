// norma report and norma baseline: comparing runs with each other and with counting.
#include <cstdio>
#include <memory>

#include "norma/base/log.h"
#include "norma/data/ngram.h"
#include "norma/record/run_folder.h"
#include "norma/record/summary.h"
#include "norma/study/report.h"

#include "commands.h"
#include "option_checks.h"

namespace norma {
namespace {

struct ReportArguments {
  std::vector<std::string> runs;
  std::string baseline, out, introduction;
};

struct BaselineArguments {
  std::vector<std::string> train, validation;  // `train` is token files, or one run folder
  std::string out;
  std::int64_t sequence_length = 512;
  std::int64_t vocab_size = 0;
};

void run_report(const ReportArguments& arguments) {
  const fs::path out = output_file("report", "--out", arguments.out, {arguments.baseline});
  ReportInput input;
  input.runs.assign(arguments.runs.begin(), arguments.runs.end());
  if (!arguments.baseline.empty()) input.baseline = arguments.baseline;
  input.introduction = arguments.introduction;
  const Report report = make_report(input);
  if (out.empty()) {
    std::printf("%s", report.markdown.c_str());
    return;
  }
  write_file_atomic(out, report.markdown);
  std::printf("%s\nwrote %s\n", report.summary.c_str(), out.c_str());
}

BaselineScores count(const TokenDataset& train, const TokenDataset& validation, std::int64_t vocab_size) {
  const NgramBaseline counted = ngram_baseline(train, validation, vocab_size);
  return {counted.unigram_nats, counted.bigram_nats, counted.tokens};
}

Baseline count_files(const BaselineArguments& arguments) {
  if (arguments.validation.empty() || arguments.vocab_size == 0) {
    throw ConfigError("[baseline] token files need --validation and --vocab-size; a run folder says both itself");
  }
  TokenDatasetOptions options;
  options.sequence_length = arguments.sequence_length;
  options.id_bound = arguments.vocab_size;
  options.paths = arguments.train;
  options.key = "TRAIN";
  const TokenDataset train(options);
  options.paths = arguments.validation;
  options.key = "--validation";
  return {{"", count(train, TokenDataset(options), arguments.vocab_size)}};
}

// On the tokens that the run trains on, for each of its validation sets of tokens.
Baseline count_run(const fs::path& run) {
  const RunConfig config = read_resolved_config(run);
  const TokenDataset train(token_options(config, config.data.paths, "data.paths"));
  Baseline baseline;
  for (const auto& [label, paths] : config.eval.sets) {
    const std::string key = "eval.sets." + label;
    if (!paths.front().ends_with(".npy")) {
      log_warning(cat(key, " is left out: only token files (.npy) can be counted"));
      continue;
    }
    baseline[label] = count(train, TokenDataset(token_options(config, paths, key)), config.model.vocab_size);
  }
  if (baseline.empty()) {
    throw ConfigError(cat("[baseline] ", run.string(), " has no validation set of token files (eval.sets)"));
  }
  return baseline;
}

void run_baseline(const BaselineArguments& arguments, const CLI::App& command) {
  fs::path out = output_file("baseline", "--out", arguments.out);
  Baseline baseline;
  if (const fs::path run = arguments.train.front(); is_run_folder(run)) {
    refuse_other_options(command, "train", {"--out"});
    baseline = count_run(run);
    if (out.empty()) out = run / kBaselineFile;
  } else {
    baseline = count_files(arguments);
  }
  const std::string text = json_text(baseline);
  if (!out.empty()) write_file_atomic(out, text);
  std::printf("%s", text.c_str());
}

}  // namespace

void add_report_command(CLI::App& app) {
  CLI::App* report = app.add_subcommand("report", "Compare runs: tables and samples as Markdown.");
  const auto arguments = std::make_shared<ReportArguments>();
  report->add_option("runs", arguments->runs, "run folders, or folders that hold run folders")->required();
  report->add_option("--baseline", arguments->baseline,
                     "file that norma baseline wrote, for two more rows; default: the one in a run's folder");
  report->add_option("--introduction", arguments->introduction, "a paragraph to put above the tables");
  report->add_option("--out", arguments->out, "file to write; default: print");
  report->footer("Example: norma report runs/hybrid_star runs/pre --out report.md");
  report->callback([arguments] { run_report(*arguments); });

  CLI::App* baseline = app.add_subcommand(
      "baseline", "Cross-entropy of unigram and add-one bigram counts, the floor a model must beat, for norma report.");
  const auto counts = std::make_shared<BaselineArguments>();
  baseline->add_option("train", counts->train, "a run folder, or token files to count")->required();
  baseline->add_option("--validation", counts->validation, "with token files: the ones to score");
  baseline->add_option("--sequence-length", counts->sequence_length, "with token files: tokens per instance")
      ->capture_default_str()
      ->check(CLI::Range(2, 1 << 24));
  baseline->add_option("--vocab-size", counts->vocab_size, "with token files: number of token ids")
      ->check(CLI::Range(1, 1 << 30));
  baseline->add_option("--out", counts->out,
                       "also write the JSON here; default: baseline.json in the run folder, if one is given");
  baseline->footer(
      "Example: norma baseline runs/pre\n"
      "         norma baseline data/train-*.npy --validation data/validation-*.npy --vocab-size 8192 --out "
      "counts.json\n"
      "         norma report runs/pre --baseline counts.json");
  baseline->callback([counts, baseline] { run_baseline(*counts, *baseline); });
}

}  // namespace norma
