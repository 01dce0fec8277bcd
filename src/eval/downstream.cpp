#include "norma/eval/downstream.h"

#include <algorithm>

#include "norma/base/error.h"
#include "norma/eval/tasks.h"

namespace norma {
namespace {

// Requests [first, last) of one document: its number stays and its continuations go on. (Where the package joins two
// data sets their last and first document have one number.)
struct DocumentRange {
  std::size_t first = 0, last = 0;
};

std::vector<DocumentRange> document_ranges(const TokenizedTask& task, std::int64_t max_documents) {
  std::vector<DocumentRange> ranges;
  for (std::size_t i = 0; i < task.requests.size(); ++i) {
    const TokenizedRequest& request = task.requests[i];
    const bool goes_on = i > 0 && task.requests[i - 1].document == request.document &&
                         task.requests[i - 1].continuation < request.continuation;
    if (!goes_on) {
      if (max_documents > 0 && static_cast<std::int64_t>(ranges.size()) == max_documents) break;
      ranges.push_back({i, i});
    }
    ranges.back().last = i + 1;
  }
  return ranges;
}

ScoredDocument scored(const TokenizedTask& task, const DocumentRange& range, const std::vector<double>& values) {
  const TokenizedRequest& first = task.requests[range.first];
  ScoredDocument document{first.document, first.label, {}};
  for (std::size_t i = range.first; i < range.last; ++i) {
    document.continuations.push_back({values[i], task.requests[i].lengths});
  }
  const auto count = static_cast<std::int64_t>(document.continuations.size());
  if (document.label < 0 || document.label >= count) {
    throw DataError(cat("[eval] task ", task.name, ", document ", document.document, ": the label must be below ",
                        count, ", the number of its continuations; got ", document.label));
  }
  return document;
}

}  // namespace

const Estimate& TaskResult::primary() const {
  const auto found = std::ranges::find(estimates, metric_name(metric), &NamedEstimate::name);
  NORMA_CHECK(found != estimates.end(), "[eval] task ", name, " has no ", metric_name(metric));
  return found->estimate;
}

TaskResult evaluate_task(Transformer& model, UnitRunner& runner, const TokenizedTask& task, std::int64_t max_documents,
                         Peers& peers, const ScoringOptions& options) {
  const std::vector<DocumentRange> ranges = document_ranges(task, max_documents);
  std::vector<ScoreRequest> requests;
  TaskResult result{task.name, task.metric, {}, {}, 0, 0, false};
  for (std::size_t i = 0; i < (ranges.empty() ? 0 : ranges.back().last); ++i) {
    requests.push_back(task.score_request(task.requests[i]));
    if (Query(requests.back(), options.context_length).is_cut()) ++result.cut;
  }
  const Scoring scoring = score(model, runner, requests, peers, options);
  if (!scoring.complete) return result;
  for (const DocumentRange& range : ranges) result.documents.push_back(scored(task, range, scoring.log_probabilities));
  result.estimates = task_estimates(result.documents, task.metric == TaskMetric::f1);
  result.requests = static_cast<std::int64_t>(requests.size());
  result.complete = true;
  return result;
}

std::string downstream_metric_name(const TaskResult& result) {
  const std::string metric = metric_name(result.metric);
  const bool apart = result.metric == TaskMetric::ce_loss || result.metric == TaskMetric::bpb;
  return cat("eval/downstream", apart ? "_" + metric : "", "/", result.name, "_", metric);
}

}  // namespace norma
