// norma export: writes the weights of a checkpoint for other programs.
#include <cstdio>
#include <memory>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/text.h"
#include "norma/checkpoint/state.h"
#include "norma/interop/model_source.h"
#include "norma/interop/olmo_folder.h"

#include "commands.h"
#include "export_formats.h"
#include "option_checks.h"

namespace norma {
namespace {

struct ExportFormat {
  std::string name;
  void (*write)(const ExportArguments& arguments);
};

const std::vector<ExportFormat>& formats() {
  static const std::vector<ExportFormat> kFormats = {
      {"safetensors", export_safetensors}, {"hf", export_hf}, {"olmo", export_olmo_names}};
  return kFormats;
}

using Options = std::vector<const CLI::Option*>;

void refuse_options_of(const std::string& format, const Options& options, const ExportArguments& arguments) {
  if (arguments.to == format) return;
  for (const CLI::Option* option : options) {
    if (option->count() > 0) throw ConfigError(cat("[export] ", option->get_name(), " is for --to ", format));
  }
}

void run_export(const ExportArguments& arguments) {
  if (!fs::is_directory(arguments.from)) {
    throw CheckpointError(cat("[export] ", arguments.from, " is neither a checkpoint nor a run folder"));
  }
  std::vector<std::string> names;
  for (const ExportFormat& format : formats()) {
    if (format.name == arguments.to) return format.write(arguments);
    names.push_back(format.name);
  }
  throw ConfigError(cat("[export] --to must be one of ", join(names, ", "), "; got '", arguments.to, "'",
                        did_you_mean(arguments.to, names)));
}

// The options of --to hf alone.
Options add_hf_options(CLI::App& command, ExportArguments& arguments) {
  return {
      command.add_option("--tokenizer", arguments.tokenizer,
                         "hf: tokenizer.json to write along; default: the run's own"),
      command.add_option("--dtype", arguments.dtype, "hf: type of the written weights, fp32 or bf16")
          ->capture_default_str(),
      command
          .add_option("--max-shard-size", arguments.max_shard_bytes,
                      "hf: largest size of a weight file: 5GB, 500MB, 2GiB")
          ->default_str("5GB")
          ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true)),
      command
          .add_option("--remote-code", arguments.remote_code,
                      "hf: auto writes a class of transformers where one computes the same, else our own Python files; "
                      "always writes our own")
          ->capture_default_str(),
      command.add_flag("--ignore-document-separator", arguments.ignore_document_separator,
                       "hf: write a model trained with model.document_separator without it"),
      command.add_option("--logits", arguments.logits,
                         "hf: also write ids and this model's logits of them to a JSON file, for "
                         "scripts/check_hf_export.py"),
      command
          .add_option("--threads", arguments.threads, "hf: threads for the check of the written model; 0: every core")
          ->capture_default_str()
          ->check(CLI::Range(0, 4096))};
}

void print_written(const FileEntry& written, const fs::path& checkpoint, const std::string& out) {
  std::printf("%s of %s in %s (xxh3 %s)\n", human_bytes(static_cast<double>(written.bytes)).c_str(), checkpoint.c_str(),
              out.c_str(), written.checksum.c_str());
}

}  // namespace

void export_safetensors(const ExportArguments& arguments) {
  const fs::path out = output_file("export", "--out", arguments.out), checkpoint = find_checkpoint(arguments.from);
  print_written(consolidate_weights(checkpoint, out), checkpoint, arguments.out);
}

void export_olmo_names(const ExportArguments& arguments) {
  const fs::path out = output_file("export", "--out", arguments.out);
  const ModelSource source = open_checkpoint_model(arguments.from);
  verify_checkpoint(source.folder);
  const OlmoKeys keys = arguments.plain_keys ? OlmoKeys::plain : OlmoKeys::encoded;
  print_written(export_olmo(out, source.config.model, source.norms, *source.weights, keys), source.folder,
                arguments.out);
}

void add_export_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("export", "Write a checkpoint for other programs, whatever number of processes saved it.");
  const auto arguments = std::make_shared<ExportArguments>();
  command->add_option("checkpoint", arguments->from, "checkpoint folder, or run folder: then its newest")->required();
  command
      ->add_option("--to", arguments->to,
                   "safetensors: one file of weights under our names. hf: a folder that Hugging Face transformers "
                   "loads. olmo: one "
                   "safetensors file that OLMo's trainer loads")
      ->capture_default_str();
  command->add_option("--out", arguments->out, "the file or folder to write")->required();
  const Options hf_options = add_hf_options(*command, *arguments);
  const Options olmo_options = {command->add_flag("--plain-keys", arguments->plain_keys,
                                                  "olmo: names as they are, not in the encoding of OLMo's files")};
  command->footer(
      "Examples: norma export runs/tiny --out tiny.safetensors\n"
      "          norma export runs/tiny --to hf --out tiny-hf --dtype bf16\n"
      "          norma export runs/tiny --to olmo --out step1000-unsharded/model.safetensors");
  command->callback([arguments, hf_options, olmo_options] {
    refuse_options_of("hf", hf_options, *arguments);
    refuse_options_of("olmo", olmo_options, *arguments);
    run_export(*arguments);
  });
}

}  // namespace norma
