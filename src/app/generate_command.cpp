// norma generate: text from a checkpoint.
#include <cstdio>
#include <memory>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/config/names.h"
#include "norma/eval/generate.h"

#include "checkpoint_model.h"
#include "commands.h"
#include "option_checks.h"
#include "run_tokenizer.h"
#include "signals.h"

namespace norma {
namespace {

constexpr int kInterrupted = 130;  // as a shell reports SIGINT

struct GenerateArguments {
  std::string checkpoint, prompt, tokenizer, device = "auto";
  GenerateOptions options;
  std::int64_t threads = 0;
  bool keep_going = false;  // past the end of text
};

// The prompt's ids; the end-of-text id alone when there is no prompt. A prompt that leaves no room is cut at its front.
std::vector<std::int64_t> prompt_ids(const Tokenizer& tokenizer, const std::string& prompt, const ModelConfig& model) {
  const std::vector<std::uint32_t> ids = tokenizer.encode(prompt);
  std::vector<std::int64_t> result(ids.begin(), ids.end());
  if (result.empty() && tokenizer.eos_id()) result.push_back(*tokenizer.eos_id());
  if (result.empty()) throw DataError("[generate] the tokenizer has no <|endoftext|> to start from: give a --prompt");
  const auto room = static_cast<std::size_t>(model.sequence_length - 1);
  if (result.size() > room) {
    log_warning(cat("the prompt has ", result.size(), " tokens, the model sees at most ", model.sequence_length,
                    ": its last ", room, " are kept"));
    result.erase(result.begin(), result.end() - static_cast<std::ptrdiff_t>(room));
  }
  return result;
}

int run_generate(const GenerateArguments& arguments) {
  const auto device = parse_enum<Device>(arguments.device);
  if (!device) throw ConfigError(cat("[generate] --device must be auto, cpu or cuda; got '", arguments.device, "'"));
  CheckpointModel loaded = load_checkpoint_model(arguments.checkpoint, *device, arguments.threads);
  const Tokenizer tokenizer = load_run_tokenizer(arguments.tokenizer, loaded.config, loaded.folder);
  GenerateOptions options = arguments.options;
  options.vocab_size = tokenizer.vocab_size();
  options.device = loaded.session.device;
  if (!arguments.keep_going && tokenizer.eos_id()) options.end_of_text = *tokenizer.eos_id();
  const std::vector<std::int64_t> prompt = prompt_ids(tokenizer, arguments.prompt, loaded.config.model);
  const std::atomic<bool>& stop = stop_on_signals("stopping");
  std::vector<std::uint32_t> ids;
  std::string shown;
  std::printf("%s", arguments.prompt.c_str());
  generate(*loaded.session.model, *loaded.session.engine, prompt, options, [&](std::int64_t token) {
    ids.push_back(static_cast<std::uint32_t>(token));
    const std::string text = tokenizer.decode(ids, /*skip_special=*/true);
    // A character may need several tokens: wait while the text still ends in a replacement character.
    if (!text.ends_with("\xef\xbf\xbd") && text.size() > shown.size()) {
      std::fwrite(text.data() + shown.size(), 1, text.size() - shown.size(), stdout);
      std::fflush(stdout);
      shown = text;
    }
    return !stop;
  });
  std::printf("\n");
  return stop ? kInterrupted : 0;
}

}  // namespace

void add_generate_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a trained model.");
  const auto arguments = std::make_shared<GenerateArguments>();
  GenerateOptions& options = arguments->options;
  command->add_option("checkpoint", arguments->checkpoint, "run folder (its newest checkpoint) or a step-N folder")
      ->required();
  command->add_option("--prompt", arguments->prompt, "text to continue; empty: from the start of a document");
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json; default: the run's own, found again");
  command->add_option("--max-tokens", options.max_tokens, "at most so many")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command->add_option("--temperature", options.temperature, "0: always the most likely token")
      ->capture_default_str()
      ->check(finite_range(0.0, 100.0));
  command->add_option("--top-k", options.top_k, "draw from the k most likely only; 0: all")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 27));
  command->add_option("--top-p", options.top_p, "draw from the smallest set of this probability")
      ->capture_default_str()
      ->check(finite_range(1e-9, 1.0));
  command->add_option("--seed", options.seed, "of the draw: the same seed, the same text")->capture_default_str();
  command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--threads", arguments->threads, "0: every core")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_flag("--ignore-end-of-text", arguments->keep_going, "go on past the end of a document");
  command->footer("Example: norma generate runs/tiny --prompt \"The kernel\" --temperature 0.8 --top-p 0.95");
  command->callback([arguments, &context] { context.exit_code = run_generate(*arguments); });
}

}  // namespace norma
