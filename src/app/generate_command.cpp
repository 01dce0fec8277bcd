// norma generate: text from a checkpoint.
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/base/log.h"
#include "norma/base/process.h"
#include "norma/config/names.h"
#include "norma/eval/generate.h"
#include "norma/record/run_folder.h"
#include "norma/record/summary.h"

#include "checkpoint_model.h"
#include "commands.h"
#include "option_checks.h"
#include "run_tokenizer.h"

namespace norma {
namespace {

struct GenerateArguments {
  std::string checkpoint, prompts, tokenizer, out, device = "auto";
  std::vector<std::string> prompt, stops;
  GenerateOptions options;
  std::int64_t threads = 0;
  bool keep_going = false;  // past the end of text
  bool keep = false;        // as samples of the run
};

constexpr std::uint64_t kMaxPromptBytes = 256 << 20;

std::string prompt_of(const std::string& line, const std::string& where) {
  const Json json = parse_json(line, where);
  return JsonObject(json, cat("[generate] ", where)).text("prompt");
}

std::string without_return(std::string line) {
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

// The texts to continue: those of --prompt, then those of the file: in a .jsonl file the "prompt" of each object, else
// each line; empty lines are passed over. One empty prompt when nothing asks for any.
std::vector<std::string> gather_prompts(const std::vector<std::string>& given, const std::string& file) {
  std::vector<std::string> prompts = given;
  if (file.empty()) {
    if (prompts.empty()) prompts.emplace_back();
    return prompts;
  }
  const bool is_json = fs::path(file).extension() == ".jsonl";
  std::size_t number = 0;
  for (const std::string& raw : split(read_file(file, kMaxPromptBytes), '\n')) {
    const std::string line = without_return(raw);
    ++number;
    if (trim(line).empty()) continue;
    prompts.push_back(is_json ? prompt_of(line, cat(file, ":", number)) : line);
  }
  if (prompts.empty()) throw DataError(cat("[generate] ", file, " holds no prompt"));
  return prompts;
}

// The prompt's ids; the end-of-text id alone when there is no prompt. A prompt that leaves no room is cut at its front.
std::vector<std::int64_t> prompt_ids(const FoundTokenizer& found, const std::string& prompt, const ModelConfig& model) {
  const std::vector<std::uint32_t> ids = found.tokenizer.encode(prompt);
  std::vector<std::int64_t> result(ids.begin(), ids.end());
  if (result.empty() && found.end_of_text) result.push_back(*found.end_of_text);
  if (result.empty()) throw DataError("[generate] the tokenizer has no <|endoftext|> to start from: give a --prompt");
  const auto room = static_cast<std::size_t>(model.sequence_length - 1);
  if (result.size() > room) {
    log_warning(cat("the prompt has ", result.size(), " tokens, the model sees at most ", model.sequence_length,
                    ": its last ", room, " are kept"));
    result.erase(result.begin(), result.end() - static_cast<std::ptrdiff_t>(room));
  }
  return result;
}

const char* end_name(EndOfPrompt end) {
  return end == EndOfPrompt::stopped ? "stop" : end == EndOfPrompt::end_of_text ? "end_of_text" : "length";
}

// The run that a checkpoint belongs to.
fs::path run_folder_of_checkpoint(const fs::path& checkpoint) {
  const fs::path run = fs::canonical(checkpoint).parent_path();
  if (is_run_folder(run)) return run;
  throw ConfigError(cat("[generate] --keep needs a run folder to keep the texts in; ", checkpoint.string(),
                        " lies in none; use --out FILE"));
}

// Shows the texts in the order of the prompts: a single one as it grows, several of them each when it and those before
// it are complete.
class Display {
 public:
  Display(const Tokenizer& tokenizer, const std::vector<std::string>& prompts, const std::vector<std::string>& stops)
      : prompts_(prompts), streams_(prompts.size(), TextStream(tokenizer, stops)), ends_(prompts.size()) {
    if (prompts.size() == 1) std::printf("%s", prompts[0].c_str());
  }

  bool add(std::size_t prompt, std::int64_t token) {
    const bool goes_on = streams_[prompt].add(token);
    if (prompts_.size() == 1) show(streams_[0]);
    return goes_on;
  }

  void end(std::size_t prompt, EndOfPrompt reason) {
    streams_[prompt].finish();
    ends_[prompt] = reason;
    for (; next_ < ends_.size() && ends_[next_]; ++next_) {
      if (prompts_.size() > 1) std::printf("%s%s", next_ > 0 ? "\n" : "", prompts_[next_].c_str());
      show(streams_[next_]);
      std::printf("\n");
      std::fflush(stdout);
      shown_ = 0;
    }
  }

  // In the prompts' order.
  std::vector<GeneratedText> texts(const std::vector<TokenIds>& results) const {
    std::vector<GeneratedText> texts;
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      texts.push_back({prompts_[i], streams_[i].text(), std::ssize(results[i]), end_name(ends_[i].value())});
    }
    return texts;
  }

 private:
  void show(const TextStream& stream) {
    const std::size_t settled = stream.settled();
    if (settled <= shown_) return;
    std::fwrite(stream.text().data() + shown_, 1, settled - shown_, stdout);
    std::fflush(stdout);
    shown_ = settled;
  }

  const std::vector<std::string>& prompts_;
  std::vector<TextStream> streams_;
  std::vector<std::optional<EndOfPrompt>> ends_;
  std::size_t next_ = 0, shown_ = 0;
};

void check_arguments(const GenerateArguments& arguments) {
  for (const std::string& stop : arguments.stops) {
    if (stop.empty()) throw ConfigError("[generate] --stop must not be empty");
  }
  output_file("generate", "--out", arguments.out, {arguments.prompts});
}

void log_speed(const std::vector<TokenIds>& results, double seconds) {
  std::size_t tokens = 0;
  for (const TokenIds& result : results) tokens += result.size();
  log_info(cat(tokens, " tokens for ", results.size(), " prompts in ", human_seconds(seconds), ", ",
               fixed(static_cast<double>(tokens) / std::max(seconds, 1e-9), 1), " tokens/s"));
}

int run_generate(const GenerateArguments& arguments) {
  const auto device = choice<Device>("generate", "--device", arguments.device);
  check_arguments(arguments);
  const std::vector<std::string> texts = gather_prompts(arguments.prompt, arguments.prompts);
  CheckpointModel loaded = load_checkpoint_model(arguments.checkpoint, device, arguments.threads);
  std::vector<fs::path> outputs;
  if (!arguments.out.empty()) outputs.emplace_back(arguments.out);
  if (arguments.keep) outputs.push_back(run_folder_of_checkpoint(loaded.folder) / kSamplesFile);
  const FoundTokenizer found = find_run_tokenizer(arguments.tokenizer, loaded.config, loaded.folder);
  GenerateOptions options = arguments.options;
  options.vocab_size = found.tokenizer.vocab_size();
  options.device = loaded.session.device;
  if (!arguments.keep_going && found.end_of_text) options.end_of_text = *found.end_of_text;
  std::vector<TokenIds> prompts;
  for (const std::string& text : texts) prompts.push_back(prompt_ids(found, text, loaded.config.model));
  const std::atomic<bool>& stop = stop_on_signals("stopping");
  Display display(found.tokenizer, texts, arguments.stops);
  GenerateEvents events;
  events.token = [&](std::size_t prompt, std::int64_t token) { return display.add(prompt, token); };
  events.end = [&](std::size_t prompt, EndOfPrompt end) { display.end(prompt, end); };
  events.cancelled = [&] { return stop.load(); };
  const auto start = std::chrono::steady_clock::now();
  const std::vector<TokenIds> results =
      generate(*loaded.session.model, *loaded.session.engine, prompts, options, events);
  if (prompts.size() > 1) {
    log_speed(results, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  if (stop) {
    std::printf("\n");
    for (const fs::path& file : outputs) {
      log_warning(cat(file.string(), " is not written, because not all texts are complete"));
    }
    return stopped_exit_code();
  }
  for (const fs::path& file : outputs) write_texts(file, display.texts(results));
  return 0;
}

}  // namespace

void add_generate_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("generate", "Continue one text or many with a trained model.");
  const auto arguments = std::make_shared<GenerateArguments>();
  GenerateOptions& options = arguments->options;
  command->add_option("checkpoint", arguments->checkpoint, "run folder (its newest checkpoint) or a step-N folder")
      ->required();
  command
      ->add_option("--prompt", arguments->prompt,
                   "text to continue, as often as you like; empty or none: from the start of a document")
      ->allow_extra_args(false);
  command->add_option("--prompts", arguments->prompts, "file of prompts: a line each, or of .jsonl the \"prompt\"s");
  command->add_option("--stop", arguments->stops, "text to end before, as often as you like")->allow_extra_args(false);
  command->add_option("--out", arguments->out, "also write prompts and texts into this .jsonl file");
  command->add_flag("--keep", arguments->keep,
                    "also keep prompts and texts in the run folder (samples.jsonl), for norma report");
  command->add_option("--batch", options.batch_rows, "prompts continued at the same time")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json; default: the run's own, found again");
  command->add_option("--max-tokens", options.max_tokens, "at most this many new tokens")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command->add_option("--temperature", options.temperature, "0: always the most likely token")
      ->capture_default_str()
      ->check(finite_range(0.0, 100.0));
  command->add_option("--top-k", options.top_k, "draw from the k most likely tokens only; 0: from all")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 27));
  command
      ->add_option("--top-p", options.top_p, "draw from the smallest set of tokens whose probabilities add up to this")
      ->capture_default_str()
      ->check(finite_range(1e-9, 1.0));
  command->add_option("--seed", options.seed, "seed of the draw: the same seed gives the same text")
      ->capture_default_str();
  command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
  command->add_option("--threads", arguments->threads, "0: every core")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_flag("--ignore-end-of-text", arguments->keep_going, "go on past the end of a document");
  command->footer(
      "Example: norma generate runs/tiny --prompt \"The kernel\" --temperature 0.8 --top-p 0.95\n"
      "         norma generate runs/tiny --prompts questions.jsonl --stop \"Q:\" --out answers.jsonl");
  command->callback([arguments, &context] { context.exit_code = run_generate(*arguments); });
}

}  // namespace norma
