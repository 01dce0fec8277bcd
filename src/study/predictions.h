// What norma eval --predictions wrote: each document's scores, one JSON line a document below a header line.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "norma/study/compare.h"

namespace norma {

struct StudyMetric {
  std::string_view name;
  std::string_view unit;
  bool is_accuracy;  // 0 or 1 for a document; higher is better, as it is for f1
};

// Metrics that a document has a value of; the last, f1, is made from choices and has none.
inline constexpr std::size_t kDocumentMetrics = 7;
inline constexpr std::array<StudyMetric, kDocumentMetrics + 1> kStudyMetrics = {
    {{"acc", "accuracy", true},
     {"len_norm", "accuracy", true},
     {"len_norm_v2", "accuracy", true},
     {"ce_loss", "nats per character", false},
     {"ce_loss_v2", "nats per character", false},
     {"bpb", "bits per byte", false},
     {"bpb_v2", "bits per byte", false},
     {"f1", "accuracy", false}}};
inline constexpr std::size_t kF1 = kDocumentMetrics;
inline constexpr std::size_t kNoMetric = kStudyMetrics.size();

std::size_t metric_index(std::string_view name);  // kNoMetric for an unknown name
std::vector<std::string> metric_names();

struct PredictedDocument {
  std::int64_t document = 0;  // no other of its task has the same
  std::int64_t label = 0;
  std::int64_t chosen = 0;  // place of the most probable continuation, the first of equals
  // Of the continuations, all characters, then all bytes: another text has other lengths nearly always.
  std::vector<std::int64_t> lengths;
  std::array<double, kDocumentMetrics> scores{};  // NaN: has none
};

struct PredictedTask {
  std::string name;
  std::size_t metric = kNoMetric;
  std::vector<PredictedDocument> documents;
};

struct Predictions {
  ComparedModel model;
  std::vector<PredictedTask> tasks;  // in the file's order
};

// Reads a predictions file, or the one that a results file names. DataError naming file and line.
Predictions read_predictions(const fs::path& path);

}  // namespace norma
