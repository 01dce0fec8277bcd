#include "eval_results.h"

#include <algorithm>

#include "norma/base/text.h"
#include "norma/eval/tasks.h"

namespace norma {
namespace {

constexpr int kFormat = 1;  // of both files

Json to_json(const Estimate& estimate) {
  Json json;
  json["value"] = estimate.value;
  json["standard_error"] = estimate.standard_error ? Json(*estimate.standard_error) : Json();
  return json;
}

Json optional_number(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json describe(const EvaluatedModel& model, const char* format) {
  Json json;
  json[format] = kFormat;
  json["model"] = model.path;
  json["step"] = model.step ? Json(*model.step) : Json();
  json["precision"] = model.precision;
  json["tokenizer_checksum"] = model.tokenizer_checksum;
  json["context_length"] = model.context_length;
  return json;
}

Json set_json(const SetResult& set) {
  Json json;
  json["cross_entropy"] = set.by_instance.cross_entropy;
  json["standard_error"] = optional_number(set.by_instance.standard_error);
  json["perplexity"] = set.by_instance.perplexity();
  json["instances"] = set.by_instance.instances;
  if (!set.by_document) return json;
  Json& documents = json["by_document"];
  documents["nats_per_token"] = to_json(set.by_document->nats_per_token);
  if (set.by_document->bits_per_byte) documents["bits_per_byte"] = to_json(*set.by_document->bits_per_byte);
  documents["documents"] = set.by_document->nats_per_token.documents;
  documents["tokens"] = set.by_document->tokens;
  documents["bytes"] = set.by_document->bytes;
  return json;
}

Json task_json(const TaskResult& task) {
  Json json = to_json(task.primary());
  json["metric"] = metric_name(task.metric);
  json["documents"] = task.documents.size();
  json["requests"] = task.requests;
  json["cut_requests"] = task.cut;
  json["left_out_documents"] = task.left_out;
  for (const NamedEstimate& one : task.estimates) json["metrics"][one.name] = to_json(one.estimate);
  return json;
}

Json prediction(const TaskResult& task, const ScoredDocument& document) {
  Json json;
  json["task"] = task.name;
  json["metric"] = metric_name(task.metric);
  json["document"] = document.document;
  json["label"] = document.label;
  for (const ScoredContinuation& one : document.continuations) {
    json["log_probabilities"].push_back(one.log_probability);
    json["characters"].push_back(one.lengths.characters);
    json["bytes"].push_back(one.lengths.bytes);
  }
  for (const std::string& metric : mean_metrics()) {
    if (const std::optional<double> value = document_value(document, metric)) json["scores"][metric] = *value;
  }
  return json;
}

// ---- The table ----

std::string with_error(double value, const std::optional<double>& error) {
  return fixed(value, 4) + (error ? cat(" ±", fixed(*error, 4)) : "");
}

std::string cell(const TaskResult& task, const char* metric) {
  const auto found = std::ranges::find(task.estimates, metric, &NamedEstimate::name);
  return found == task.estimates.end() ? "-" : fixed(found->estimate.value, 4);
}

std::string sets_table(const std::vector<SetResult>& sets) {
  std::vector<std::vector<std::string>> rows = {
      {"set", "nats/token", "perplexity", "instances", "by document", "bits/byte", "documents"}};
  for (const SetResult& set : sets) {
    rows.push_back({set.label, with_error(set.by_instance.cross_entropy, set.by_instance.standard_error),
                    fixed(set.by_instance.perplexity(), 2), with_commas(set.by_instance.instances), "-", "-", "-"});
    if (!set.by_document) continue;
    const Estimate& tokens = set.by_document->nats_per_token;
    rows.back()[4] = with_error(tokens.value, tokens.standard_error);
    rows.back()[6] = with_commas(tokens.documents);
    if (const auto& bits = set.by_document->bits_per_byte) {
      rows.back()[5] = with_error(bits->value, bits->standard_error);
    }
  }
  return aligned(rows, /*left_columns=*/1);
}

std::string tasks_table(const std::vector<TaskResult>& tasks) {
  std::vector<std::vector<std::string>> rows = {
      {"task", "metric", "value", "acc", "len_norm", "len_norm_v2", "ce_loss", "bpb", "bpb_v2", "documents"}};
  for (const TaskResult& task : tasks) {
    rows.push_back({task.name, metric_name(task.metric),
                    with_error(task.primary().value, task.primary().standard_error), cell(task, "acc"),
                    cell(task, "len_norm"), cell(task, "len_norm_v2"), cell(task, "ce_loss"), cell(task, "bpb"),
                    cell(task, "bpb_v2"), with_commas(static_cast<std::int64_t>(task.documents.size()))});
  }
  return aligned(rows, /*left_columns=*/1);
}

}  // namespace

std::string results_table(const EvaluationResult& result) {
  std::string text;
  if (!result.sets.empty()) text += sets_table(result.sets);
  if (!result.sets.empty() && !result.tasks.empty()) text += "\n";
  if (!result.tasks.empty()) text += tasks_table(result.tasks);
  return text;
}

Json results_json(const EvaluationResult& result, const EvaluatedModel& model, const std::string& predictions) {
  Json json = describe(model, "norma_results");
  if (!predictions.empty()) json["predictions"] = predictions;
  for (const SetResult& set : result.sets) json["sets"][set.label] = set_json(set);
  for (const TaskResult& task : result.tasks) json["tasks"][task.name] = task_json(task);
  return json;
}

std::string predictions_jsonl(const EvaluationResult& result, const EvaluatedModel& model) {
  std::string lines = to_text(describe(model, "norma_predictions")) + "\n";
  for (const TaskResult& task : result.tasks) {
    for (const ScoredDocument& document : task.documents) lines += prediction(task, document).dump() + "\n";
  }
  return lines;
}

}  // namespace norma
