#include "norma/study/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "norma/base/error.h"

#include "paired_test.h"

namespace norma {
namespace {

struct DocumentPair {
  const PredictedDocument* a;
  const PredictedDocument* b;
};
using Pairs = std::vector<DocumentPair>;

// ---- Pairing ----

const PredictedTask* find_task(const Predictions& predictions, const std::string& name) {
  for (const PredictedTask& task : predictions.tasks) {
    if (task.name == name) return &task;
  }
  return nullptr;
}

// Both files must hold the same question: otherwise a difference would not come from the models.
void check_same(const DocumentPair& pair, const std::string& task, const Predictions& a, const Predictions& b) {
  const auto fail = [&](const auto&... parts) {
    throw DataError(cat("[compare] task ", task, ", document ", pair.a->document, ": ", parts..., " in ",
                        a.file.string(), " and ", b.file.string(),
                        "; only predictions from the same evaluation data can be compared"));
  };
  if (pair.a->label != pair.b->label) fail("labels differ, ", pair.a->label, " and ", pair.b->label);
  const std::size_t count_a = pair.a->log_probabilities.size(), count_b = pair.b->log_probabilities.size();
  if (count_a != count_b) fail("numbers of continuations differ, ", count_a, " and ", count_b);
  if (pair.a->characters != pair.b->characters || pair.a->bytes != pair.b->bytes) {
    fail("lengths of continuations differ");
  }
}

Pairs pair_documents(const PredictedTask& task, const PredictedTask& other, const Predictions& a,
                     const Predictions& b) {
  std::map<std::int64_t, const PredictedDocument*> others;
  for (const PredictedDocument& document : other.documents) others[document.document] = &document;
  Pairs pairs;
  for (const PredictedDocument& document : task.documents) {
    const auto found = others.find(document.document);
    if (found == others.end()) continue;
    pairs.push_back({&document, found->second});
    check_same(pairs.back(), task.name, a, b);
  }
  return pairs;
}

// ---- Values of a metric ----

// The score of each model over all documents, and one number per document whose mean and spread are those of B - A.
struct Values {
  double a = 0.0, b = 0.0;
  std::vector<double> differences;
};

// Counts of a binary decision about class 0. Right decisions about other classes do not matter to F1.
struct ClassZero {
  double hits = 0.0, mistakes = 0.0;

  void count(std::int64_t chosen, std::int64_t label, double times) {
    if (chosen == 0 && label == 0) hits += times;
    if ((chosen == 0) != (label == 0)) mistakes += times;
  }
  double f1() const { return hits > 0.0 ? 2.0 * hits / (2.0 * hits + mistakes) : 0.0; }
};

// F1 of the choices, and for each document the jackknife's pseudo-value of B minus that of A.
Values f1_values(const Pairs& pairs) {
  ClassZero a, b;
  for (const DocumentPair& pair : pairs) {
    a.count(pair.a->chosen(), pair.a->label, 1.0);
    b.count(pair.b->chosen(), pair.b->label, 1.0);
  }
  Values values{a.f1(), b.f1(), {}};
  const auto n = static_cast<double>(pairs.size());
  for (const DocumentPair& pair : pairs) {
    ClassZero without_a = a, without_b = b;
    without_a.count(pair.a->chosen(), pair.a->label, -1.0);
    without_b.count(pair.b->chosen(), pair.b->label, -1.0);
    values.differences.push_back(n * (values.b - values.a) - (n - 1.0) * (without_b.f1() - without_a.f1()));
  }
  return values;
}

const std::optional<double>& score_of(const PredictedDocument& document, TaskMetric metric) {
  return document.scores.at(static_cast<std::size_t>(metric));
}

// `metric` is one that every pair has.
Values mean_values(const Pairs& pairs, TaskMetric metric) {
  Values values;
  for (const DocumentPair& pair : pairs) {
    const double a = score_of(*pair.a, metric).value(), b = score_of(*pair.b, metric).value();
    values.a += a / static_cast<double>(pairs.size());
    values.b += b / static_cast<double>(pairs.size());
    values.differences.push_back(b - a);
  }
  return values;
}

// The pairs that have the metric.
Pairs pairs_with(const Pairs& pairs, TaskMetric metric, const PredictedTask& task) {
  if (metric == TaskMetric::f1) return task.metric == TaskMetric::f1 ? pairs : Pairs{};
  Pairs kept;
  for (const DocumentPair& pair : pairs) {
    const bool has_a = score_of(*pair.a, metric).has_value(), has_b = score_of(*pair.b, metric).has_value();
    if (has_a != has_b) {
      throw DataError(cat("[compare] task ", task.name, ", document ", pair.a->document,
                          ": only one of the files has '", metric_name(metric), "'"));
    }
    if (has_a) kept.push_back(pair);
  }
  return kept;
}

// ---- Statistics ----

// Without any spread, a difference that is not zero is certain.
void set_interval(PairedDifference& pair, double error, double critical, double p_value) {
  pair.standard_error = error;
  pair.low = pair.difference - critical * error;
  pair.high = pair.difference + critical * error;
  pair.p_value = error > 0.0 ? p_value : (pair.difference == 0.0 ? 1.0 : 0.0);
}

PairedDifference paired_difference(const Values& values) {
  PairedDifference pair{values.a, values.b, values.b - values.a, {}, {}, {}, {}};
  const auto n = static_cast<double>(values.differences.size());
  if (n < 2.0) return pair;
  double mean = 0.0, squares = 0.0;
  for (const double value : values.differences) mean += value / n;
  for (const double value : values.differences) squares += (value - mean) * (value - mean);
  const double error = std::sqrt(squares / (n - 1.0) / n);
  set_interval(pair, error, student_critical(n - 1.0), student_two_sided(pair.difference / error, n - 1.0));
  return pair;
}

DiscordantPairs discordant_pairs(const std::vector<double>& differences) {
  DiscordantPairs pairs;
  for (const double difference : differences) {
    if (difference < 0.0) ++pairs.only_a;
    if (difference > 0.0) ++pairs.only_b;
  }
  pairs.p_value = sign_test(pairs.only_a, pairs.only_b);
  return pairs;
}

TaskComparison compare_task(const std::string& name, TaskMetric metric, const Pairs& pairs) {
  TaskComparison comparison{name, metric, static_cast<std::int64_t>(pairs.size()), {}, {}};
  const Values values = metric == TaskMetric::f1 ? f1_values(pairs) : mean_values(pairs, metric);
  comparison.pair = paired_difference(values);
  if (info_of(metric).is_accuracy) comparison.discordant = discordant_pairs(values.differences);
  return comparison;
}

// The variance of the mean is the mean of the tasks' variances, divided by their number.
MeanComparison mean_of_tasks(const std::string& unit, const std::vector<const TaskComparison*>& tasks) {
  MeanComparison mean{unit, static_cast<std::int64_t>(tasks.size()), {}};
  const auto n = static_cast<double>(tasks.size());
  double variance = 0.0;
  for (const TaskComparison* task : tasks) {
    mean.pair.a += task->pair.a / n;
    mean.pair.b += task->pair.b / n;
    const double error = task->pair.standard_error.value_or(std::numeric_limits<double>::quiet_NaN());
    variance += error * error / (n * n);
  }
  mean.pair.difference = mean.pair.b - mean.pair.a;
  const double error = std::sqrt(variance);
  if (!std::isnan(error)) {
    set_interval(mean.pair, error, kNormalCritical, normal_two_sided(mean.pair.difference / error));
  }
  return mean;
}

std::vector<MeanComparison> means_of(const std::vector<TaskComparison>& tasks) {
  std::map<std::string, std::vector<const TaskComparison*>> by_unit;
  for (const TaskComparison& task : tasks) {
    by_unit[std::string(info_of(task.metric).unit)].push_back(&task);
  }
  std::vector<MeanComparison> means;
  for (const auto& [unit, members] : by_unit) {
    if (members.size() > 1) means.push_back(mean_of_tasks(unit, members));
  }
  return means;
}

// ---- Two files ----

std::vector<std::string> names_missing_in(const Predictions& other, const Predictions& from) {
  std::vector<std::string> names;
  for (const PredictedTask& task : from.tasks) {
    if (find_task(other, task.name) == nullptr) names.push_back(task.name);
  }
  return names;
}

std::vector<std::string> notes_on(const Predictions& a, const Predictions& b) {
  std::vector<std::string> notes;
  const auto note_tasks = [&](const char* which, const std::vector<std::string>& names) {
    if (!names.empty()) notes.push_back(cat("left out, only ", which, " has them: ", join(names, ", ")));
  };
  note_tasks("A", names_missing_in(b, a));
  note_tasks("B", names_missing_in(a, b));
  if (a.model.tokenizer_checksum != b.model.tokenizer_checksum) {
    notes.emplace_back(
        "the tokenizers differ: log-probabilities are comparable per character or byte only, as ce_loss and bpb are");
  }
  if (a.model.context_length != b.model.context_length) {
    notes.push_back(cat("the context lengths differ (", a.model.context_length, " and ", b.model.context_length,
                        "): long requests were cut at other positions"));
  }
  return notes;
}

void note_documents(const PredictedTask& task, const PredictedTask& other, std::size_t paired,
                    std::vector<std::string>& notes) {
  const std::size_t only_a = task.documents.size() - paired, only_b = other.documents.size() - paired;
  if (only_a + only_b == 0) return;
  notes.push_back(
      cat(task.name, ": documents that only one file has are left out, ", only_a, " of A and ", only_b, " of B"));
}

ModelComparison compare_pair(const Predictions& a, const Predictions& b, std::optional<TaskMetric> asked_metric) {
  ModelComparison comparison;
  comparison.other = {b.file, b.model};
  comparison.notes = notes_on(a, b);
  bool has_common = false;
  std::vector<std::string> without;
  for (const PredictedTask& task : a.tasks) {
    const PredictedTask* other = find_task(b, task.name);
    if (other == nullptr) continue;
    const Pairs all = pair_documents(task, *other, a, b);
    note_documents(task, *other, all.size(), comparison.notes);
    if (all.empty()) continue;
    has_common = true;
    const TaskMetric metric = asked_metric.value_or(task.metric);
    const Pairs pairs = pairs_with(all, metric, task);
    if (pairs.empty()) {
      without.push_back(task.name);
    } else {
      comparison.tasks.push_back(compare_task(task.name, metric, pairs));
    }
  }
  if (!has_common) {
    throw DataError(
        cat("[compare] ", a.file.string(), " and ", b.file.string(), " have no document of a task in common"));
  }
  if (comparison.tasks.empty()) {
    throw ConfigError(cat("[compare] no common task of ", a.file.string(), " and ", b.file.string(),
                          " has the metric asked for; without --metric each task's own is compared"));
  }
  if (!without.empty()) comparison.notes.push_back(cat("left out, without the metric: ", join(without, ", ")));
  comparison.means = means_of(comparison.tasks);
  return comparison;
}

}  // namespace

Comparison compare_predictions(const CompareInput& input) {
  if (input.files.size() < 2) {
    throw ConfigError(
        cat("[compare] at least two files of predictions or results must be given; got ", input.files.size()));
  }
  const std::optional<TaskMetric> metric = parse_task_metric(input.metric);
  if (!metric && !input.metric.empty()) {
    const std::vector<std::string> names = task_metric_names();
    throw ConfigError(cat("[compare] unknown metric '", input.metric, "'", did_you_mean(input.metric, names),
                          "; known are ", join(names, ", ")));
  }
  const Predictions first = read_predictions(input.files[0]);
  Comparison comparison{{first.file, first.model}, {}};
  for (std::size_t i = 1; i < input.files.size(); ++i) {
    comparison.others.push_back(compare_pair(first, read_predictions(input.files[i]), metric));
  }
  return comparison;
}

}  // namespace norma
