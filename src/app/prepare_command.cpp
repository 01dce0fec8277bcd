// norma prepare: text to token files.
#include <csignal>
#include <cstdio>
#include <memory>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/process.h"
#include "norma/config/names.h"
#include "norma/data/prepare.h"

#include "commands.h"

namespace norma {
namespace {

struct PrepareArguments {
  PrepareOptions options;
  std::string dtype = "auto";
};

void run_prepare(PrepareArguments& arguments) {
  const auto dtype = parse_enum<TokenDtype>(arguments.dtype);
  if (!dtype) {
    throw ConfigError(cat("[prepare] --dtype must be auto, uint16 or uint32; got '", arguments.dtype, "'"));
  }
  arguments.options.dtype = *dtype;
  const std::atomic<bool>& stop = stop_on_signals("stopping; nothing half-written is left behind");
  ProgressLine progress;
  double shown = -1.0;
  const PrepareReport report = prepare(arguments.options, [&](const PrepareProgress& p) {
    if (stop) {
      throw Error(stop_signal() == SIGTERM ? ExitCode::terminated : ExitCode::interrupted,
                  "[prepare] stopped by a signal; nothing was written");
    }
    const double done =
        p.bytes_total > 0 ? static_cast<double>(p.bytes_done) / static_cast<double>(p.bytes_total) : 1.0;
    if (!progress.on_terminal() && done < shown + 0.1) return;
    shown = done;
    progress.update(cat("prepare ", fixed(100.0 * done, 0), "%  ", with_commas(p.documents), " documents  ",
                        with_commas(p.tokens), " tokens"));
  });
  progress.finish();
  std::printf("%s documents (%s for validation, %s empty ones skipped), %s text\n",
              with_commas(report.documents).c_str(), with_commas(report.validation_documents).c_str(),
              with_commas(report.skipped).c_str(), human_bytes(static_cast<double>(report.text_bytes)).c_str());
  std::printf("%s training and %s validation tokens of %s ids as %s in %s (%s tokens/s)\n",
              with_commas(report.train_tokens).c_str(), with_commas(report.validation_tokens).c_str(),
              with_commas(report.vocab_size).c_str(), std::string(enum_name(report.dtype)).c_str(),
              human_seconds(report.seconds).c_str(), human_count(report.tokens_per_second()).c_str());
  if (!report.note.empty()) std::printf("note: %s\n", report.note.c_str());
  if (report.repaired > 0) {
    log_warning(cat("[prepare] ", with_commas(report.repaired), " of the documents had ill-formed text (bad UTF-8 or ",
                    "lone surrogates): each such place was replaced by U+FFFD"));
  }
  for (const fs::path& file : report.files) std::printf("  %s\n", file.c_str());
}

}  // namespace

void add_prepare_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("prepare", "Tokenize text into OLMo token files, with a sidecar each.");
  const auto arguments = std::make_shared<PrepareArguments>();
  PrepareOptions& options = arguments->options;
  command->add_option("inputs", options.inputs, "files (.jsonl, .txt, .md, .rst, also .gz and .zst), globs or folders")
      ->required();
  command->add_option("--tokenizer", options.tokenizer, "tokenizer.json in Hugging Face's format")->required();
  command->add_option("--out", options.output, "folder for the token files")->required();
  command->add_option("--dtype", arguments->dtype, "auto, uint16 or uint32")->capture_default_str();
  command->add_option("--eos", options.eos_token, "token that ends a document; default <|endoftext|>");
  command->add_option("--validation-fraction", options.validation_fraction,
                      "share of documents, drawn by hash, that goes to validation");
  command->add_option("--validation-every", options.validation_every, "every n-th document goes to validation");
  command->add_option("--max-tokens-per-file", options.max_tokens_per_file, "start a new file at the next document")
      ->capture_default_str();
  command->add_option("--threads", options.threads, "0: every core")->capture_default_str()->check(CLI::Range(0, 4096));
  command->add_option("--seed", options.seed, "seed of the validation draw")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--overwrite", options.overwrite, "replace what an earlier prepare wrote to the folder");
  command->footer(
      "When the draw leaves validation (or training) without a document, the nearest one is moved there; of a single\n"
      "document the last part is held out. A signal ends the command with exit code 130 or 143 and nothing is "
      "written.\n"
      "Example: norma prepare books/*.jsonl.zst --tokenizer tokenizer.json --out data --validation-fraction 0.01");
  command->callback([arguments] { run_prepare(*arguments); });
}

}  // namespace norma
