// norma export: weights of a checkpoint for other programs.
#include <cstdio>
#include <memory>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/checkpoint/consolidate.h"

#include "checkpoint_model.h"
#include "commands.h"

namespace norma {
namespace {

struct ExportArguments {
  std::string from, out;
};

void run_export(const ExportArguments& arguments) {
  if (!fs::is_directory(arguments.from)) {
    throw CheckpointError(cat("[export] ", arguments.from, " is no checkpoint or run folder"));
  }
  if (fs::is_directory(arguments.out)) {
    throw ConfigError(cat("[export] --out names the file to write; ", arguments.out, " is a folder"));
  }
  const fs::path out = arguments.out, place = out.has_parent_path() ? out.parent_path() : fs::path(".");
  if (fs::exists(out) && !fs::is_regular_file(out)) {
    throw ConfigError(cat("[export] --out names the file to write; ", arguments.out, " is something else"));
  }
  if (fs::exists(place / kManifestName)) {
    throw ConfigError(cat("[export] ", place.string(),
                          " is a checkpoint, whose files must stay as they are; give --out ", "another folder"));
  }
  const fs::path checkpoint = find_checkpoint(arguments.from);
  const FileEntry written = consolidate_weights(checkpoint, arguments.out);
  std::printf("%s of %s in %s (xxh3 %s)\n", human_bytes(static_cast<double>(written.bytes)).c_str(), checkpoint.c_str(),
              arguments.out.c_str(), written.checksum.c_str());
}

}  // namespace

void add_export_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "export", "Write a checkpoint's weights as one safetensors file, whatever number of processes saved it.");
  const auto arguments = std::make_shared<ExportArguments>();
  command->add_option("checkpoint", arguments->from, "checkpoint folder, or run folder: then its newest")->required();
  command->add_option("--out", arguments->out, "the file to write")->required();
  command->footer("Example: norma export runs/tiny --out tiny.safetensors");
  command->callback([arguments] { run_export(*arguments); });
}

}  // namespace norma
