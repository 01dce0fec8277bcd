// norma report and norma baseline: comparing runs with each other and with counting.
#include <cstdio>
#include <memory>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/data/ngram.h"
#include "norma/study/report.h"

#include "commands.h"

namespace norma {
namespace {

struct ReportArguments {
  std::vector<std::string> runs;
  std::string baseline, out, introduction;
};

struct BaselineArguments {
  std::vector<std::string> train, validation;
  std::int64_t sequence_length = 512;
  std::int64_t vocab_size = 0;
};

void run_report(const ReportArguments& arguments) {
  ReportInput input;
  input.runs.assign(arguments.runs.begin(), arguments.runs.end());
  if (!arguments.baseline.empty()) input.baseline = arguments.baseline;
  input.introduction = arguments.introduction;
  const std::string report = make_report(input);
  if (arguments.out.empty()) {
    std::printf("%s", report.c_str());
  } else {
    write_file_atomic(arguments.out, report);
    std::printf("wrote %s\n", arguments.out.c_str());
  }
}

void run_baseline(const BaselineArguments& arguments) {
  TokenDatasetOptions options;
  options.sequence_length = arguments.sequence_length;
  options.id_bound = arguments.vocab_size;
  options.paths = arguments.train;
  options.key = "TRAIN";
  const TokenDataset train(options);
  options.paths = arguments.validation;
  options.key = "--validation";
  const TokenDataset validation(options);
  const NgramBaseline baseline = ngram_baseline(train, validation, arguments.vocab_size);
  Json json;
  json["unigram_nats"] = baseline.unigram_nats;
  json["bigram_nats"] = baseline.bigram_nats;
  json["tokens"] = baseline.tokens;
  std::printf("%s\n", json.dump().c_str());
}

}  // namespace

void add_report_command(CLI::App& app) {
  CLI::App* report = app.add_subcommand("report", "Compare finished runs: tables and samples as Markdown.");
  const auto arguments = std::make_shared<ReportArguments>();
  report->add_option("runs", arguments->runs, "run folders")->required();
  report->add_option("--baseline", arguments->baseline, "JSON file that norma baseline printed, for two more rows");
  report->add_option("--introduction", arguments->introduction, "a paragraph to put above the tables");
  report->add_option("--out", arguments->out, "file to write; default: print");
  report->footer("Example: norma report runs/hybrid_star runs/pre --out report.md");
  report->callback([arguments] { run_report(*arguments); });

  CLI::App* baseline = app.add_subcommand("baseline",
                                          "Cross-entropy of unigram and add-one bigram counts, the floor a model must "
                                          "beat, as JSON for report --baseline.");
  const auto counts = std::make_shared<BaselineArguments>();
  baseline->add_option("train", counts->train, "token files to count")->required();
  baseline->add_option("--validation", counts->validation, "token files to score")->required();
  baseline->add_option("--sequence-length", counts->sequence_length, "tokens per instance")
      ->capture_default_str()
      ->check(CLI::Range(2, 1 << 24));
  baseline->add_option("--vocab-size", counts->vocab_size, "number of token ids")
      ->required()
      ->check(CLI::Range(1, 1 << 30));
  baseline->footer(
      "Example: norma baseline data/train-*.npy --validation data/validation-*.npy --vocab-size 8192 > baseline.json\n"
      "         norma report runs/pre --baseline baseline.json");
  baseline->callback([counts] { run_baseline(*counts); });
}

}  // namespace norma
