// An evaluation as files hold it.
#include "norma/base/error.h"
#include "norma/eval/evaluation.h"

namespace norma {
namespace {

Score score_of(const Estimate& estimate) {
  return {estimate.value, estimate.standard_error};
}

DocumentScores document_scores(const DocumentPerplexity& documents) {
  DocumentScores scores;
  scores.nats_per_token = score_of(documents.nats_per_token);
  if (documents.bits_per_byte) scores.bits_per_byte = score_of(*documents.bits_per_byte);
  scores.documents = documents.nats_per_token.documents;
  scores.tokens = documents.tokens;
  scores.bytes = documents.bytes;
  return scores;
}

SetScores set_scores(const SetResult& set) {
  SetScores scores;
  scores.cross_entropy = set.by_instance.cross_entropy;
  scores.standard_error = set.by_instance.standard_error;
  scores.perplexity = set.by_instance.perplexity();
  scores.instances = set.by_instance.instances;
  if (set.by_document) scores.by_document = document_scores(*set.by_document);
  return scores;
}

TaskScores task_scores(const TaskResult& task) {
  TaskScores scores;
  scores.value = task.primary().value;
  scores.standard_error = task.primary().standard_error;
  scores.metric = task.metric;
  scores.documents = std::ssize(task.documents);
  scores.requests = task.requests;
  scores.cut_requests = task.cut;
  scores.left_out_documents = task.left_out;
  for (const MetricEstimate& one : task.estimates) {
    scores.metrics.emplace_back(metric_name(one.metric), score_of(one.estimate));
  }
  return scores;
}

PredictedDocument predicted_document(const ScoredDocument& document) {
  PredictedDocument predicted;
  predicted.document = document.document;
  predicted.label = document.label;
  for (const ScoredContinuation& one : document.continuations) {
    predicted.log_probabilities.push_back(one.log_probability);
    predicted.characters.push_back(one.lengths.characters);
    predicted.bytes.push_back(one.lengths.bytes);
  }
  for (std::size_t m = 0; m < kDocumentMetrics; ++m) {
    predicted.scores.at(m) = document_value(document, static_cast<TaskMetric>(m));
  }
  return predicted;
}

}  // namespace

EvaluationRecord results_of(const EvaluationResult& result, const EvaluatedModel& model) {
  EvaluationRecord record{.model = model, .predictions = {}, .sets = {}, .tasks = {}};
  for (const SetResult& set : result.sets) record.sets.emplace_back(set.label, set_scores(set));
  for (const TaskResult& task : result.tasks) record.tasks.emplace_back(task.name, task_scores(task));
  return record;
}

Predictions predictions_of(const EvaluationResult& result, const EvaluatedModel& model) {
  Predictions predictions{.file = {}, .model = model, .tasks = {}};
  for (const TaskResult& task : result.tasks) {
    PredictedTask& predicted = predictions.tasks.emplace_back(PredictedTask{task.name, task.metric, {}});
    for (const ScoredDocument& document : task.documents) predicted.documents.push_back(predicted_document(document));
  }
  return predictions;
}

}  // namespace norma
