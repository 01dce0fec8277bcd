// Compares models at downstream tasks, document by document, from the predictions that norma eval wrote. Both models
// answered the same questions, so what both find easy or hard cancels out.
//
// For each task it gives the mean of the paired differences, its standard error sd / sqrt(n), and the 95 % interval and
// two-sided p value of Student's t with n - 1 degrees of freedom. For accuracies it adds McNemar's exact test of the
// documents that only one model gets right. f1 is a score of all documents: there the differences are the jackknife's
// pseudo-values. Documents and tasks are taken to be independent of each other. Where they are not (the seven prompts
// of one question in mmlu_*_var, two tasks made from one table) the intervals are too narrow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/record/results.h"

namespace norma {

struct CompareInput {
  // Predictions, or results that name their predictions. All are compared with the first one.
  std::vector<fs::path> files;
  std::string metric;  // compared in every task; "": each task's own
};

struct ComparedModel {
  fs::path file;  // of its predictions
  EvaluatedModel model;
};

// The difference B - A with its 95 % interval.
struct PairedDifference {
  double a = 0.0, b = 0.0, difference = 0.0;
  std::optional<double> standard_error, low, high, p_value;  // all or none: a single pair has none
};

// Numbers of documents that only one model gets right. The p value is two-sided and exact (binomial).
struct DiscordantPairs {
  std::int64_t only_a = 0, only_b = 0;
  double p_value = 1.0;
};

struct TaskComparison {
  std::string task;
  TaskMetric metric = TaskMetric::acc;
  std::int64_t documents = 0;
  PairedDifference pair;
  std::optional<DiscordantPairs> discordant;  // for accuracies
};

// The unweighted mean over the tasks whose metrics have the same unit.
struct MeanComparison {
  std::string unit;  // "accuracy", "nats per character", "bits per byte"
  std::int64_t tasks = 0;
  PairedDifference pair;  // its interval and p value are those of a normal distribution
};

struct ModelComparison {
  ComparedModel other;
  std::vector<TaskComparison> tasks;  // in the order of A's file
  std::vector<MeanComparison> means;  // one per unit that at least two tasks share
  std::vector<std::string> notes;     // what was left out, what makes the numbers hard to compare
};

struct Comparison {
  ComparedModel first;
  std::vector<ModelComparison> others;
};

// Throws ConfigError for fewer than two files, an unknown metric, or a metric that no common task has. Throws DataError
// naming file and line for a malformed file, for files without a common task, and for a document whose label or
// continuations differ between the files.
Comparison compare_predictions(const CompareInput& input);

// For people: one aligned table per pair of models, with the notes below.
std::string compare_table(const Comparison& comparison);

// For programs. What is not known, such as the interval of a single document, is null.
Json to_json(const Comparison& comparison);

}  // namespace norma
