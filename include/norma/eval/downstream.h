// Downstream tasks, from requests to scores. The training loop and norma eval take the same path.
#pragma once

#include <string>
#include <vector>

#include "norma/eval/estimates.h"
#include "norma/eval/log_probabilities.h"
#include "norma/eval/requests.h"

namespace norma {

struct TaskResult {
  std::string name;
  TaskMetric metric = TaskMetric::acc;
  std::vector<ScoredDocument> documents;  // in the task's order
  std::vector<MetricEstimate> estimates;  // every metric that applies to it
  std::int64_t requests = 0;
  std::int64_t cut = 0;       // requests that were longer than the model reads: their first tokens were dropped
  std::int64_t left_out = 0;  // documents that do not fit the model, see leave_out_unfitting()
  bool complete = false;      // false: ended early, and nothing above is filled

  const Estimate& primary() const;  // of `metric`
};

// Takes out the documents with a continuation longer than context_length, which cannot be scored, and counts them in
// task.left_out. Throws DataError naming the task when none remains.
void leave_out_unfitting(TokenizedTask& task, std::int64_t context_length);

// The checksum of all its token ids: processes that share a task compare it.
std::string checksum_of(const TokenizedTask& task);

// Scores a task, or its first max_documents documents (0: all). The ranks share the work; every one gets the result.
// Throws DivergedError naming the document when a log-probability is not finite.
TaskResult evaluate_task(Transformer& model, UnitRunner& runner, const TokenizedTask& task, std::int64_t max_documents,
                         Peers& peers, const ScoringOptions& options);

}  // namespace norma
