// norma import: makes a run folder out of another program's weights.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <memory>
#include <optional>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/log.h"
#include "norma/config/yaml.h"
#include "norma/data/run_tokenizer.h"
#include "norma/interop/model_source.h"
#include "norma/model/parameters.h"
#include "norma/train/checkpointing.h"

#include "checked_config.h"
#include "commands.h"
#include "option_checks.h"
#include "run_description.h"

namespace norma {
namespace {

struct ImportArguments {
  std::string source, out, config, tokenizer;
  std::vector<std::string> overrides;
};

// The folder's name, with '-' for every character that a run's name may not have.
std::string run_name(const fs::path& out) {
  std::string name = without_slash(out).filename().string();
  std::ranges::replace_if(
      name, [](unsigned char c) { return std::isalnum(c) == 0 && c != '.' && c != '_' && c != '-'; }, '-');
  return name.empty() || name[0] == '.' ? "imported" : name;
}

// The tokenizer of --tokenizer, else the one beside the weights if we can read it.
std::optional<fs::path> find_tokenizer(const ImportArguments& arguments, const ForeignModel& source) {
  if (!arguments.tokenizer.empty()) return arguments.tokenizer;
  const std::optional<fs::path> file = tokenizer_in(source.folder);
  if (!file) return std::nullopt;
  try {
    Tokenizer::load(*file);
    return file;
  } catch (const DataError& error) {
    log_warning(cat("the tokenizer is left behind: ", error.what()));
    return std::nullopt;
  }
}

// The model's vocabulary becomes the tokenizer's; rows beyond its ids are padding.
void fit_vocabulary(const fs::path& file, const ForeignModel& source, ModelConfig& model) {
  const std::int64_t ids = Tokenizer::load(file).vocab_size();
  if (ids > source.config.model.vocab_size) {
    throw DataError(cat("[import] ", file.string(), " has ", with_commas(ids), " ids, ", source.what, " only ",
                        with_commas(source.config.model.vocab_size), ": it is not this model's tokenizer"));
  }
  model.embedding_rows = source.config.model.rows();
  model.vocab_size = ids;
}

// Settings that change neither a tensor nor what the model computes from one.
bool is_free(const std::string& key, const ModelConfig& model) {
  if (model.moe_layers().empty() && is_inside(key, "model.moe")) return true;
  const auto keys = {"model.sequence_length", "model.document_separator", "model.moe.balance_loss", "model.moe.z_loss",
                     "model.vocab_size"};
  return std::ranges::any_of(keys, [&](const char* free) { return key == free; });
}

// Writes defaults out, so that a value that is left to its default equals the same value given.
ModelConfig written_out(ModelConfig model) {
  model.num_kv_heads = model.kv_heads();
  if (!model.is_latent()) model.head_dim = model.head_width();
  model.embedding_rows = model.rows();
  model.moe.expert_dim = model.expert_width();
  model.moe.top_groups = model.moe_top_groups();
  return model;
}

void require_same_model(const ForeignModel& source, const CheckedConfig& asked) {
  RunConfig given, wanted;
  given.model = written_out(source.config.model);
  given.norm = source.config.norm;
  wanted.model = written_out(asked.config.model);
  wanted.norm = asked.config.norm;
  const bool other_plan = asked.norms != source.norms;
  std::vector<std::string> refused;
  for (const KeyDifference& difference : differing_keys(given, wanted)) {
    if (is_free(difference.key, source.config.model)) continue;
    if (is_inside(difference.key, "norm") && !other_plan) continue;  // the same plan in other words
    refused.push_back(cat(difference.key, ": ", difference.before, " -> ", difference.now));
  }
  if (refused.empty()) return;
  throw ConfigError(
      cat("[import] ", source.what, " is of another model than the settings ask for:\n  ", join(refused, "\n  ")));
}

// The settings of the new run: the source's model, our defaults for the rest, and on top what the user set.
CheckedConfig settings_of(const ImportArguments& arguments, const ForeignModel& source,
                          const std::optional<fs::path>& tokenizer, const fs::path& stage) {
  RunConfig config;
  config.model = source.config.model;
  config.norm = source.config.norm;
  config.run.name = run_name(arguments.out);
  if (tokenizer) fit_vocabulary(*tokenizer, source, config.model);
  const fs::path file = stage / kConfigFile, out = fs::absolute(arguments.out);
  write_file_atomic(file, to_yaml(config));
  std::vector<std::string> overrides = arguments.overrides;
  if (!source.settings.empty()) overrides.insert(overrides.begin(), "@" + source.settings);
  CheckedConfig checked = load_checked_config(file.string(), overrides);
  require_same_model(source, checked);
  if (tokenizer) checked.config.data.tokenizer = (out / kTokenizerFile).string();
  checked.config.checkpoint.resume = (out / checkpoint_name(0)).string();
  write_file_atomic(file, to_yaml(checked.config));
  return checked;
}

void write_run(const CheckedConfig& checked, const ForeignModel& source, const std::vector<std::string>& command_line,
               const fs::path& stage) {
  const RunPlan plan = make_run_plan(checked.config, checked.norms, /*batches_per_epoch=*/0);
  const RunFolder folder(stage);
  write_description(stage, describe_run(checked, plan, command_line, "none: imported"));
  const std::string dtype = dtype_name(master_type(checked.config.precision));
  std::vector<TensorInfo> tensors;
  for (const UnitSpec& unit : model_parameters(checked.config.model, checked.norms)) {
    for (const ParameterSpec& p : unit.parameters) tensors.push_back({p.name, dtype, p.shape, 0, 0});
  }
  write_checkpoint(stage, training_manifest(checked.config, {}, /*optimizer_steps=*/0, ""), tensors, *source.weights);
}

void run_import(const ImportArguments& arguments, const std::vector<std::string>& command_line) {
  output_folder("import", "--out", arguments.out);
  const ForeignModel source = open_foreign_model(arguments.source, arguments.config);
  const std::optional<fs::path> tokenizer = find_tokenizer(arguments, source);
  StagedPath staged(arguments.out, "import");
  staged.make_folder();
  const CheckedConfig checked = settings_of(arguments, source, tokenizer, staged.path());
  if (tokenizer) write_file_atomic(staged.path() / kTokenizerFile, read_file(*tokenizer, kMaxTokenizerBytes));
  write_run(checked, source, command_line, staged.path());
  staged.publish();
  std::printf("%s\n%s parameters in %s/step-0, %s\nto train on: norma train %s/config.yaml data.paths=...\n",
              source.what.c_str(),
              with_commas(num_parameters(model_parameters(checked.config.model, checked.norms))).c_str(),
              arguments.out.c_str(), tokenizer ? "with its tokenizer" : "without a tokenizer", arguments.out.c_str());
}

}  // namespace

void add_import_command(CLI::App& app, CommandContext& context) {
  CLI::App* command =
      app.add_subcommand("import", "Make a run folder out of a Hugging Face folder, or of weights under OLMo's names.");
  const auto arguments = std::make_shared<ImportArguments>();
  command
      ->add_option("source", arguments->source,
                   "folder with config.json; or a .safetensors file with OLMo's names, or the folder it lies in")
      ->required();
  command->add_option("overrides", arguments->overrides,
                      "key=value or @FILE: settings of the new run; the model and its norms are the source's");
  command->add_option("--out", arguments->out, "the run folder to make; step-0 in it holds the weights")->required();
  command->add_option("--config", arguments->config,
                      "settings of the new run; they must describe the source's model. For OLMo's names also OLMo's "
                      "config.yaml (default: the one beside the weights)");
  command->add_option("--tokenizer", arguments->tokenizer,
                      "tokenizer.json to take along; default: the one beside the weights");
  command->footer(
      "Example: norma import models/OLMo-2-0425-1B --out runs/olmo2 train.micro_batch_size=2\n"
      "         norma import step1000-unsharded/model.safetensors --out runs/olmo");
  command->callback([arguments, &context] { run_import(*arguments, context.arguments); });
}

}  // namespace norma
