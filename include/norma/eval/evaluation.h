// All that is measured of a model: validation sets and downstream tasks. The training loop and norma eval call the same
// function, so that equal weights give equal numbers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "norma/config/config.h"
#include "norma/data/run_tokenizer.h"
#include "norma/eval/downstream.h"
#include "norma/eval/perplexity.h"
#include "norma/record/metrics.h"
#include "norma/record/results.h"

namespace norma {

struct EvalSet {
  std::string label;
  std::shared_ptr<const TokenDataset> dataset;
  std::shared_ptr<const TokenDocuments> documents;  // null: not scored by document
};

struct EvaluationInput {
  std::vector<EvalSet> sets;
  std::vector<TokenizedTask> tasks;
  std::vector<std::int64_t> token_bytes;  // by id; empty when no tokenizer is known

  bool empty() const { return sets.empty() && tasks.empty(); }
};

struct EvaluationSources {
  const RunConfig& config;  // its section eval says what to open
  // Finds the model's tokenizer. It is called at most once, and only when text must become tokens or bytes must be
  // counted. When it throws DataError, bits per byte are left out, unless the user named the tokenizer.
  std::function<FoundTokenizer()> find_tokenizer;
  bool tokenizer_is_named = false;
  std::string tokenizer_checksum = {};           // of the tokenizer that made the model's tokens; "": unknown
  std::int64_t instance_length = 0;              // tokens of an instance of a set; 0: model.sequence_length
  int threads = 1;                               // for tokenizing
  std::function<void(const std::string&)> warn;  // called with what the user should know; must not be empty
};

// Text files of a set are tokenized now. Throws ConfigError (unknown tasks, a set of tokens and text), DataError (a
// file, a tokenizer, token files of another tokenizer, a request that does not fit the model).
EvaluationInput open_evaluation(const EvaluationSources& sources);

// A hash of all token ids that will be read. Processes that share the work must agree on it.
std::string fingerprint(const EvaluationInput& input);

struct EvaluationOptions {
  at::Device device = at::kCPU;
  std::int64_t loss_chunk = 1024;
  // Called after each forward pass: `done` of `total` instances or requests of the part `what` are complete. False on
  // any rank ends the evaluation early on all.
  std::function<bool(const std::string& what, std::int64_t done, std::int64_t total)> progress;
};

struct SetResult {
  std::string label;
  Perplexity by_instance;
  std::optional<DocumentPerplexity> by_document;
};

struct EvaluationResult {
  std::vector<SetResult> sets;
  std::vector<TaskResult> tasks;
  bool complete = false;  // not ended early
};

EvaluationResult evaluate(Transformer& model, UnitRunner& runner, const EvaluationInput& input,
                          const EvalConfig& config, Peers& peers, const EvaluationOptions& options);

// The most tokens of a request that the model reads: eval.context_length, or the model's own length if that is less.
std::int64_t context_length_of(const EvalConfig& config, const ModelConfig& model);

// The results under their metric names (record/metrics.h): sets first, then tasks.
Metrics metrics_of(const EvaluationResult& result);

// The results and every document's scores, as files hold them (record/results.h).
EvaluationRecord results_of(const EvaluationResult& result, const EvaluatedModel& model);
Predictions predictions_of(const EvaluationResult& result, const EvaluatedModel& model);

}  // namespace norma
