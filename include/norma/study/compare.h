// Is one model better than another at downstream tasks? Compared document by document, from the predictions that
// norma eval wrote: both models answered the same questions, so what they find easy or hard alike cancels out.
//
// Of a task: the mean of the paired differences, its standard error sd / sqrt(n), the interval and the two-sided p
// value of Student's t with n - 1 degrees of freedom; of accuracies also McNemar's exact test of the documents that one
// model alone gets right. f1 is a score of all documents: its differences are the jackknife's pseudo-values. Documents
// and tasks are taken to be independent of each other; where they are not (the seven prompts of one question in
// mmlu_*_var, two tasks from one table) the intervals are too narrow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/json.h"

namespace norma {

struct CompareInput {
  // Predictions, or results that name theirs; all are compared with the first.
  std::vector<fs::path> files;
  std::string metric;  // for every task; "": each task's own
};

// What a predictions file says of the model.
struct ComparedModel {
  fs::path file;
  std::string model;
  std::optional<std::int64_t> step;
  std::string tokenizer_checksum;
  std::int64_t context_length = 0;
};

// B - A, with its 95 % interval.
struct PairedDifference {
  double a = 0.0, b = 0.0, difference = 0.0;
  std::optional<double> standard_error, low, high, p_value;  // all or none: one pair has none
};

// Documents that one model alone gets right; p_value is two-sided and exact (binomial).
struct DiscordantPairs {
  std::int64_t only_a = 0, only_b = 0;
  double p_value = 1.0;
};

struct TaskComparison {
  std::string task, metric;
  std::int64_t documents = 0;
  PairedDifference pair;
  std::optional<DiscordantPairs> discordant;  // of accuracies
};

// Unweighted, over the tasks whose metrics have one unit.
struct MeanComparison {
  std::string unit;  // "accuracy", "nats per character", "bits per byte"
  std::int64_t tasks = 0;
  PairedDifference pair;  // normal quantiles
};

struct ModelComparison {
  ComparedModel other;
  std::vector<TaskComparison> tasks;  // in the order of A's file
  std::vector<MeanComparison> means;  // of units with two tasks and more
  std::vector<std::string> notes;     // what was left out, what makes the numbers hard to compare
};

struct Comparison {
  ComparedModel first;
  std::vector<ModelComparison> others;
};

// ConfigError: fewer than two files, an unknown metric, or one that no common task has. DataError naming file and line:
// a malformed file; files without a common task; a document whose label or continuations differ between the files.
Comparison compare_predictions(const CompareInput& input);

// For people: one aligned table per pair of models, with the notes below.
std::string compare_table(const Comparison& comparison);

// The same for programs. What is not known (an interval of one document) is null.
Json to_json(const Comparison& comparison);

}  // namespace norma
