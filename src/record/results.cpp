#include "norma/record/results.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "json_fields.h"
#include "lines.h"

namespace norma {

static std::vector<std::string> names_of(TaskMetric /*type*/) {
  return task_metric_names();
}

namespace {

constexpr int kFormat = 1;  // of both files
constexpr const char* kResultsKey = "norma_results";
constexpr const char* kPredictionsKey = "norma_predictions";
constexpr const char* kPredictionsPathKey = "predictions";

constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxContinuations = 10'000;
constexpr std::size_t kMaxNameBytes = 4096;
constexpr std::size_t kFirstKeyBytes = 4096;  // the first key of either file ends within so many bytes

// ---- What both files start with ----

Json header_json(const char* key, const EvaluatedModel& model) {
  Json json;
  json[key] = kFormat;
  json.update(json_of(model));
  return json;
}

// Names are shown to people: they must be short and printable.
void check_name(const JsonObject& record, const char* key, const std::string& text) {
  const bool is_printable =
      std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  if (text.size() > kMaxNameBytes || !is_printable) {
    record.fail_at(key, "must be a short text without control characters");
  }
}

EvaluatedModel read_header(const JsonObject& record, const char* key) {
  if (record.integer(key) != kFormat) {
    record.fail_at(key, "must be ", kFormat, ", the format that this program reads; got ", record.integer(key));
  }
  EvaluatedModel model;
  read_section(record, model);
  check_name(record, "model", model.path);
  check_name(record, "tokenizer_checksum", model.tokenizer_checksum);
  return model;
}

// ---- A line of predictions ----

Json document_json(const PredictedTask& task, const PredictedDocument& document) {
  Json json;
  json["task"] = task.name;
  json["metric"] = metric_name(task.metric);
  json["document"] = document.document;
  json["label"] = document.label;
  json["log_probabilities"] = document.log_probabilities;
  json["characters"] = document.characters;
  json["bytes"] = document.bytes;
  json["scores"] = Json::object();
  for (std::size_t m = 0; m < kDocumentMetrics; ++m) {
    if (document.scores[m]) json["scores"][std::string(kTaskMetrics[m].name)] = *document.scores[m];
  }
  return json;
}

std::vector<std::int64_t> read_lengths(const JsonObject& record, const char* key, std::size_t count) {
  std::vector<std::int64_t> values = record.integers(key);
  if (values.size() != count) {
    record.fail_at(key, "must be as long as 'log_probabilities' (", count, "); got ", values.size());
  }
  return values;
}

void read_scores(const JsonObject& scores, PredictedDocument& document) {
  for (std::size_t m = 0; m < kDocumentMetrics; ++m) {
    const std::string name(kTaskMetrics[m].name);
    if (!scores.has(name)) continue;
    const double value = scores.number(name);
    if (kTaskMetrics[m].is_accuracy && value != 0.0 && value != 1.0) {
      scores.fail_at(name, "must be 0 or 1; got ", shortest(value));
    }
    document.scores[m] = value;
  }
}

PredictedDocument read_document(const JsonObject& record) {
  PredictedDocument document;
  document.document = record.integer("document");
  document.label = record.integer("label");
  document.log_probabilities = record.numbers("log_probabilities");
  const std::size_t count = document.log_probabilities.size();
  if (count == 0 || count > kMaxContinuations) {
    record.fail_at("log_probabilities", "must hold 1 to ", kMaxContinuations, " numbers; got ", count);
  }
  if (document.label >= static_cast<std::int64_t>(count)) {
    record.fail_at("label", "must be the index of one of ", count, " continuations, from 0; got ", document.label);
  }
  document.characters = read_lengths(record, "characters", count);
  document.bytes = read_lengths(record, "bytes", count);
  read_scores(record.object("scores"), document);
  return document;
}

// Sorts documents into their tasks.
class TaskCollector {
 public:
  void add(const JsonObject& record) {
    const std::string& name = record.text("task");
    check_name(record, "task", name);
    TaskMetric metric{};
    read_field(record, "metric", metric);
    const auto [found, is_new] = indices_.emplace(name, tasks_.size());
    if (is_new) {
      tasks_.push_back({name, metric, {}});
      seen_.emplace_back();
    }
    PredictedTask& task = tasks_[found->second];
    if (task.metric != metric) {
      record.fail("task ", name, " must have one metric; got '", metric_name(metric), "' after '",
                  metric_name(task.metric), "'");
    }
    task.documents.push_back(read_document(record));
    if (!seen_[found->second].insert(task.documents.back().document).second) {
      record.fail("document ", task.documents.back().document, " of task ", name, " comes again");
    }
  }
  std::vector<PredictedTask> take() { return std::move(tasks_); }

 private:
  std::vector<PredictedTask> tasks_;
  std::map<std::string, std::size_t> indices_;          // of tasks_, by name
  std::vector<std::unordered_set<std::int64_t>> seen_;  // documents of each task
};

// ---- Which of the two files it is ----

std::size_t position_of_key(std::string_view text, const char* key) {
  return text.substr(0, kFirstKeyBytes).find(cat('"', key, '"'));
}

bool holds_results(std::string_view text) {
  return position_of_key(text, kResultsKey) < position_of_key(text, kPredictionsKey);
}

Predictions parse_predictions(std::string_view text, const fs::path& file) {
  if (position_of_key(text.substr(0, text.find('\n')), kPredictionsKey) == std::string_view::npos) {
    throw DataError(cat("[record] ", file.string(), ":1: must be predictions or results of norma eval: a JSON object ",
                        "with the key '", kPredictionsKey, "' or '", kResultsKey, "'"));
  }
  Predictions predictions{.file = file, .model = {}, .tasks = {}};
  TaskCollector collector;
  bool has_header = false;
  for_each_line(text, file, kMaxLineBytes, [&](const std::string& where, std::string_view line) {
    const Json content = parse_json(line, where);
    const JsonObject record(content, cat("[record] ", where));
    if (has_header) return collector.add(record);
    predictions.model = read_header(record, kPredictionsKey);
    has_header = true;
  });
  predictions.tasks = collector.take();
  return predictions;
}

}  // namespace

std::optional<TaskMetric> parse_task_metric(std::string_view name) {
  const auto found = std::ranges::find(kTaskMetrics, name, &TaskMetricInfo::name);
  if (found == kTaskMetrics.end()) return std::nullopt;
  return static_cast<TaskMetric>(found - kTaskMetrics.begin());
}

std::vector<std::string> task_metric_names() {
  std::vector<std::string> names;
  for (const TaskMetricInfo& metric : kTaskMetrics) names.emplace_back(metric.name);
  return names;
}

std::int64_t PredictedDocument::chosen() const {
  return std::ranges::max_element(log_probabilities) - log_probabilities.begin();
}

void write_results(const fs::path& file, const EvaluationRecord& results) {
  Json json = header_json(kResultsKey, results.model);
  write_field(json, kPredictionsPathKey, results.predictions);
  if (!results.sets.empty()) write_field(json, "sets", results.sets);
  if (!results.tasks.empty()) write_field(json, "tasks", results.tasks);
  write_json(file, json);
}

EvaluationRecord read_results(const fs::path& file) {
  const Json json = read_json(file, kMaxRecordBytes);
  const JsonObject object(json, cat("[record] ", file.string()));
  EvaluationRecord results;
  results.model = read_header(object, kResultsKey);
  read_field(object, kPredictionsPathKey, results.predictions);
  if (object.has("sets")) read_field(object, "sets", results.sets);
  if (object.has("tasks")) read_field(object, "tasks", results.tasks);
  return results;
}

void write_predictions(const fs::path& file, const Predictions& predictions) {
  std::string lines = to_text(header_json(kPredictionsKey, predictions.model)) + "\n";
  for (const PredictedTask& task : predictions.tasks) {
    for (const PredictedDocument& document : task.documents) lines += to_text(document_json(task, document)) + "\n";
  }
  write_file_atomic(file, lines);
}

// A path in a results file only says what is read next, and that must prove to be predictions: it may lie anywhere.
Predictions read_predictions(const fs::path& file) {
  const MappedFile mapped(file);
  if (!holds_results(text_of(mapped))) return parse_predictions(text_of(mapped), file);
  const std::optional<std::string> named = read_results(file).predictions;
  if (!named) {
    throw DataError(cat("[record] ", file.string(),
                        ": these results came without predictions, which a comparison needs; give norma eval "
                        "--predictions FILE"));
  }
  const fs::path followed = file.parent_path() / *named;
  return parse_predictions(text_of(MappedFile(followed)), followed);
}

}  // namespace norma
