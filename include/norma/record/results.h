// What norma eval writes: results, one JSON object with every score, and predictions, JSON lines with the scores of
// every document. The first keys of both files say which model was evaluated.
//
// The metrics of downstream tasks are named here; eval/estimates.h defines them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "norma/base/file.h"

namespace norma {

// ---- Metrics of downstream tasks ----

// f1 is a score of all documents of a task; the others are means over documents.
enum class TaskMetric { acc, len_norm, len_norm_v2, ce_loss, ce_loss_v2, bpb, bpb_v2, f1 };

struct TaskMetricInfo {
  std::string_view name;
  std::string_view unit;
  bool is_accuracy;  // 0 or 1 for a document; higher is better, as it is for f1
};

inline constexpr std::array<TaskMetricInfo, 8> kTaskMetrics = {{{"acc", "accuracy", true},
                                                                {"len_norm", "accuracy", true},
                                                                {"len_norm_v2", "accuracy", true},
                                                                {"ce_loss", "nats per character", false},
                                                                {"ce_loss_v2", "nats per character", false},
                                                                {"bpb", "bits per byte", false},
                                                                {"bpb_v2", "bits per byte", false},
                                                                {"f1", "accuracy", false}}};
inline constexpr std::size_t kDocumentMetrics = kTaskMetrics.size() - 1;  // all but f1

constexpr const TaskMetricInfo& info_of(TaskMetric metric) {
  return kTaskMetrics[static_cast<std::size_t>(metric)];
}
inline std::string metric_name(TaskMetric metric) {
  return std::string(info_of(metric).name);
}
std::optional<TaskMetric> parse_task_metric(std::string_view name);
std::vector<std::string> task_metric_names();

// ---- The model that was evaluated ----

struct EvaluatedModel {
  std::string path;
  std::optional<std::int64_t> step;
  std::string precision;
  std::string tokenizer_checksum;  // "": no tokenizer was needed
  std::int64_t context_length = 0;

  template <class V>
  void visit(V&& v) {
    v("model", path);
    v("step", step);
    v("precision", precision);
    v("tokenizer_checksum", tokenizer_checksum);
    v("context_length", context_length);
  }
};

// ---- Results ----

struct Score {
  double value = 0.0;
  std::optional<double> standard_error;

  template <class V>
  void visit(V&& v) {
    v("value", value);
    v("standard_error", standard_error);
  }
};

struct DocumentScores {  // of a validation set, scored document by document
  Score nats_per_token;
  std::optional<Score> bits_per_byte;  // where the bytes of tokens are known
  std::int64_t documents = 0, tokens = 0, bytes = 0;

  template <class V>
  void visit(V&& v) {
    v("nats_per_token", nats_per_token);
    v("bits_per_byte", bits_per_byte);
    v("documents", documents);
    v("tokens", tokens);
    v("bytes", bytes);
  }
};

struct SetScores {
  double cross_entropy = 0.0;  // nats per token, mean over instances
  std::optional<double> standard_error;
  double perplexity = 0.0;
  std::int64_t instances = 0;
  std::optional<DocumentScores> by_document;

  template <class V>
  void visit(V&& v) {
    v("cross_entropy", cross_entropy);
    v("standard_error", standard_error);
    v("perplexity", perplexity);
    v("instances", instances);
    v("by_document", by_document);
  }
};

struct TaskScores {
  double value = 0.0;  // of `metric`
  std::optional<double> standard_error;
  TaskMetric metric = TaskMetric::acc;  // the one that the task is known by
  std::int64_t documents = 0, requests = 0;
  std::int64_t cut_requests = 0;                       // requests of which the model saw only the end
  std::int64_t left_out_documents = 0;                 // because a continuation is longer than the model reads
  std::vector<std::pair<std::string, Score>> metrics;  // by name, all that have a meaning for the task

  template <class V>
  void visit(V&& v) {
    v("value", value);
    v("standard_error", standard_error);
    v("metric", metric);
    v("documents", documents);
    v("requests", requests);
    v("cut_requests", cut_requests);
    v("left_out_documents", left_out_documents);
    v("metrics", metrics);
  }
};

struct EvaluationRecord {
  EvaluatedModel model;
  std::optional<std::string> predictions;  // their file, seen from the results' folder
  std::vector<std::pair<std::string, SetScores>> sets;
  std::vector<std::pair<std::string, TaskScores>> tasks;
};

// Throws DiskError.
void write_results(const fs::path& file, const EvaluationRecord& results);

// Throws DataError naming file and key.
EvaluationRecord read_results(const fs::path& file);

// ---- Predictions ----

struct PredictedDocument {
  std::int64_t document = 0;  // no other of its task has the same
  std::int64_t label = 0;     // index of the right continuation
  // One entry per continuation: its log-probability in nats, and its length in code points and in UTF-8 bytes.
  std::vector<double> log_probabilities;
  std::vector<std::int64_t> characters, bytes;
  std::array<std::optional<double>, kDocumentMetrics> scores;  // by TaskMetric

  std::int64_t chosen() const;  // index of the most probable continuation, the first of equals
};

struct PredictedTask {
  std::string name;
  TaskMetric metric = TaskMetric::acc;
  std::vector<PredictedDocument> documents;
};

struct Predictions {
  fs::path file = {};  // where they were read from
  EvaluatedModel model;
  std::vector<PredictedTask> tasks;  // in the file's order
};

// A header line, then a line for every document of every task. Throws DiskError.
void write_predictions(const fs::path& file, const Predictions& predictions);

// Reads a predictions file, or the one that a results file names. Throws DataError naming file and line.
Predictions read_predictions(const fs::path& file);

}  // namespace norma
