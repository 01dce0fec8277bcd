// Opens what an evaluation reads.
#include <algorithm>
#include <optional>

#include <unistd.h>

#include "norma/base/error.h"
#include "norma/data/prepare.h"
#include "norma/eval/evaluation.h"
#include "norma/eval/tasks.h"

namespace norma {
namespace {

bool is_token_file(const std::string& name) {
  return name.ends_with(".npy");
}

// A folder of this process alone, which is removed with the object. Files that are still mapped stay readable.
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
  explicit Opening(const EvaluationSources& sources) : sources_(sources), config_(sources.config) {
    if (sources.instance_length > 0) config_.model.sequence_length = sources.instance_length;
  }

  EvaluationInput run() {
    EvaluationInput input;
    if (sources_.tokenizer_is_named) found();
    for (const auto& [label, paths] : config_.eval.sets) input.sets.push_back(open_set(label, paths));
    if (config_.eval.by_document && !input.sets.empty() && find_quietly()) {
      input.token_bytes = found().tokenizer.token_bytes();
    }
    if (!config_.eval.tasks.empty()) open_tasks(input);
    return input;
  }

 private:
  const FoundTokenizer& found() {
    if (!found_) found_ = sources_.find_tokenizer();
    return *found_;
  }

  // False, with a warning, when the model's own tokenizer is not found.
  bool find_quietly() {
    if (found_) return true;
    if (is_missing_) return false;
    try {
      found();
    } catch (const DataError& error) {
      sources_.warn(cat("no bits per byte: ", error.what()));
      is_missing_ = true;
    }
    return found_.has_value();
  }

  void open_tasks(EvaluationInput& input) {
    const std::int64_t context_length = context_length_of(config_.eval, sources_.config.model);
    const std::vector<std::string> names = resolve_tasks(config_.eval.tasks);
    const TaskFolder folder(config_.eval.task_data);
    for (const std::string& name : names) {
      input.tasks.push_back(tokenize_task(folder.load(name), found().tokenizer, sources_.threads));
      leave_out_unfitting(input.tasks.back(), context_length);
      const std::int64_t left_out = input.tasks.back().left_out;
      if (left_out > 0) {
        sources_.warn(cat(name, ": ", with_commas(left_out), left_out == 1 ? " document is" : " documents are",
                          " left out, for a continuation is longer than the ", context_length,
                          " tokens the model reads"));
      }
    }
  }

  EvalSet open_set(const std::string& label, const std::vector<std::string>& paths) {
    const std::string key = "eval.sets." + label;
    const auto tokens = std::ranges::count_if(paths, is_token_file);
    EvalSet set{label, {}, {}};
    if (tokens == std::ssize(paths)) {
      set.dataset = std::make_shared<const TokenDataset>(token_options(config_, paths, key));
      check_tokenizer(set);
    } else if (tokens == 0) {
      set.dataset = tokenized_text(paths, key);
    } else {
      throw ConfigError(cat("[", key, "] must name token files (.npy) or text files, not both"));
    }
    if (config_.eval.by_document) open_documents(set);
    return set;
  }

  // The scores of tokens of another tokenizer would mean nothing.
  void check_tokenizer(const EvalSet& set) {
    const std::optional<Sidecar> sidecar = set.dataset->sidecar();
    if (!sidecar) return;
    const bool is_found = config_.eval.by_document ? find_quietly() : found_.has_value();
    const std::string wanted = is_found ? found().tokenizer.checksum() : sources_.tokenizer_checksum;
    if (wanted.empty() || sidecar->tokenizer_checksum == wanted) return;
    throw DataError(cat("[eval.sets.", set.label, "] these tokens were made by another tokenizer (checksum ",
                        sidecar->tokenizer_checksum, ") than the model's", is_found ? ", " : "",
                        is_found ? found().file.string() : "", " (", wanted, ")"));
  }

  void open_documents(EvalSet& set) {
    const std::optional<Sidecar> sidecar = set.dataset->sidecar();
    std::optional<std::uint32_t> end;
    if (sidecar) {
      end = static_cast<std::uint32_t>(sidecar->eos_id);
    } else if (find_quietly()) {
      end = found().end_of_text;
    }
    if (!end) {
      sources_.warn(cat(set.label, " is not scored by document: nothing says which id ends one"));
      return;
    }
    const std::int64_t most = config_.eval.max_instances * config_.model.sequence_length;
    set.documents = std::make_shared<const TokenDocuments>(read_documents(*set.dataset, *end, most));
  }

  std::shared_ptr<const TokenDataset> tokenized_text(const std::vector<std::string>& paths, const std::string& key) {
    const ScratchFolder folder;
    PrepareOptions options;
    options.inputs = paths;
    options.tokenizer = found().file;
    options.output = folder.path() / "tokens";
    options.threads = sources_.threads;
    prepare(options, {});
    RunConfig as_prepared = config_;
    as_prepared.data.dtype = TokenDtype::automatic;
    return std::make_shared<const TokenDataset>(
        token_options(as_prepared, {(options.output / "train-*.npy").string()}, key));
  }

  const EvaluationSources& sources_;
  RunConfig config_;  // with the length of the sets' instances
  std::optional<FoundTokenizer> found_;
  bool is_missing_ = false;
};

}  // namespace

EvaluationInput open_evaluation(const EvaluationSources& sources) {
  return Opening(sources).run();
}

std::string fingerprint(const EvaluationInput& input) {
  std::string all;
  for (const EvalSet& set : input.sets) all += cat(set.label, ":", set.dataset->fingerprint(), " ");
  for (const TokenizedTask& task : input.tasks) all += cat(task.name, ":", checksum_of(task), " ");
  return all;
}

}  // namespace norma
