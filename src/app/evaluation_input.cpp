#include "evaluation_input.h"

#include <algorithm>
#include <optional>

#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/thread_pool.h"
#include "norma/data/prepare.h"
#include "norma/data/text_reader.h"
#include "norma/eval/tasks.h"

#include "checked_config.h"

namespace norma {
namespace {

bool is_token_file(const std::string& name) {
  return name.ends_with(".npy");
}

// A folder of this process' own, gone with the object. Files that are mapped then stay readable.
class ScratchFolder {
 public:
  ScratchFolder() : path_(fs::temp_directory_path() / "norma-XXXXXX") {
    std::string name = path_.string();
    if (mkdtemp(name.data()) == nullptr)
      throw DiskError("[eval] cannot make a folder in " + path_.parent_path().string());
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Opens what config.eval names, with one tokenizer for all of it.
class Opening {
 public:
  Opening(const RunConfig& config, const TokenizerFinder& find_tokenizer)
      : config_(config), find_tokenizer_(find_tokenizer) {}

  EvaluationInput run() {
    EvaluationInput input;
    for (const auto& [label, paths] : config_.eval.sets) input.sets.push_back(open_set(label, paths));
    if (config_.eval.by_document && !input.sets.empty()) input.token_bytes = bytes_of_tokens(input.sets);
    if (config_.eval.tasks.empty()) return input;
    for (const std::string& name : resolve_tasks(config_.eval.tasks)) {
      const Task task = load_task(name, config_.eval.task_data);
      input.tasks.push_back(tokenize_task(task, found().tokenizer, available_cores()));
    }
    return input;
  }

 private:
  const FoundTokenizer& found() {
    if (!found_) found_ = find_tokenizer_();
    return *found_;
  }

  EvalSet open_set(const std::string& label, const std::vector<std::string>& paths) {
    const std::string key = "eval.sets." + label;
    const auto tokens = std::ranges::count_if(paths, is_token_file);
    EvalSet set{label, {}, {}};
    if (tokens == std::ssize(paths)) {
      set.dataset = std::make_shared<const TokenDataset>(token_options(config_, paths, key));
    } else if (tokens == 0) {
      set.dataset = tokenized_text(paths, key);
    } else {
      throw ConfigError(cat("[", key, "] must name token files (.npy) or text files, not both"));
    }
    if (config_.eval.by_document) {
      const std::int64_t most = config_.eval.max_instances * config_.model.sequence_length;
      set.documents = std::make_shared<const TokenDocuments>(read_documents(*set.dataset, most));
    }
    return set;
  }

  std::shared_ptr<const TokenDataset> tokenized_text(const std::vector<std::string>& paths, const std::string& key) {
    const ScratchFolder folder;
    PrepareOptions options;
    options.inputs = paths;
    options.tokenizer = found().file;
    options.output = folder.path() / "tokens";
    prepare(options, {});
    RunConfig as_prepared = config_;
    as_prepared.data.dtype = TokenDtype::automatic;
    return std::make_shared<const TokenDataset>(
        token_options(as_prepared, {(options.output / "train-*.npy").string()}, key));
  }

  // Bits per byte need the tokenizer; nats per token do without.
  std::vector<std::int64_t> bytes_of_tokens(const std::vector<EvalSet>& sets) {
    try {
      return found().tokenizer.token_bytes();
    } catch (const DataError& error) {
      log_warning(cat("no bits per byte for ", sets.front().label, ": ", error.what()));
      return {};
    }
  }

  const RunConfig& config_;
  const TokenizerFinder& find_tokenizer_;
  std::optional<FoundTokenizer> found_;
};

}  // namespace

EvaluationInput open_evaluation(const RunConfig& config, const TokenizerFinder& find_tokenizer) {
  return Opening(config, find_tokenizer).run();
}

}  // namespace norma
