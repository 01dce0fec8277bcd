// All that is measured of a model: validation sets and downstream tasks. The training loop and norma eval call the same
// function, so that equal weights give equal numbers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "norma/config/config.h"
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
