#include "norma/eval/downstream.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "norma/base/error.h"
#include "norma/eval/tasks.h"

namespace norma {
namespace {

struct DocumentRange {
  std::size_t first = 0, last = 0;  // requests [first, last)
};

std::vector<DocumentRange> document_ranges(const TokenizedTask& task, std::int64_t max_documents) {
  std::vector<DocumentRange> ranges;
  for (std::size_t i = 0; i < task.requests.size(); ++i) {
    if (i == 0 || task.requests[i - 1].document != task.requests[i].document) {
      if (max_documents > 0 && std::ssize(ranges) == max_documents) break;
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
    if (!std::isfinite(values[i])) {
      throw DivergedError(cat("[eval] task ", task.name, ", document ", document.document, ": a log-probability is ",
                              values[i], "; the model's weights or activations are not finite"));
    }
    document.continuations.push_back({values[i], task.requests[i].lengths});
  }
  return document;
}

}  // namespace

const Estimate& TaskResult::primary() const {
  const auto found = std::ranges::find(estimates, metric, &MetricEstimate::metric);
  NORMA_CHECK(found != estimates.end(), "[eval] task ", name, " has no ", metric_name(metric));
  return found->estimate;
}

void leave_out_unfitting(TokenizedTask& task, std::int64_t context_length) {
  std::set<std::int64_t> unfitting;
  std::size_t longest = 0;
  for (const TokenizedRequest& request : task.requests) {
    if (static_cast<std::int64_t>(request.text.size) > context_length) unfitting.insert(request.document);
    longest = std::max(longest, request.text.size);
  }
  std::erase_if(task.requests, [&](const TokenizedRequest& request) { return unfitting.contains(request.document); });
  if (task.requests.empty()) {
    throw DataError(cat("[eval] task ", task.name, ": no document fits; continuations have up to ", longest,
                        " tokens, the model reads at most ", context_length,
                        " (eval.context_length, model.sequence_length)"));
  }
  task.left_out = std::ssize(unfitting);
}

std::string checksum_of(const TokenizedTask& task) {
  return checksum(std::as_bytes(std::span(task.ids)));
}

TaskResult evaluate_task(Transformer& model, UnitRunner& runner, const TokenizedTask& task, std::int64_t max_documents,
                         Peers& peers, const ScoringOptions& options) {
  const std::vector<DocumentRange> ranges = document_ranges(task, max_documents);
  std::vector<ScoreRequest> requests;
  TaskResult result{task.name, task.metric, {}, {}, 0, 0, task.left_out, false};
  for (std::size_t i = 0; i < (ranges.empty() ? 0 : ranges.back().last); ++i) {
    requests.push_back(task.score_request(task.requests[i]));
    if (RequestWindow(requests.back(), options.context_length).is_cut()) ++result.cut;
  }
  const LogProbabilities scores = score_requests(model, runner, requests, peers, options);
  if (!scores.complete) return result;
  for (const DocumentRange& range : ranges) result.documents.push_back(scored(task, range, scores.values));
  result.estimates = task_estimates(result.documents, task.metric == TaskMetric::f1);
  result.requests = static_cast<std::int64_t>(requests.size());
  result.complete = true;
  return result;
}

}  // namespace norma
