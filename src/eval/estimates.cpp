#include "norma/eval/estimates.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "norma/base/error.h"
#include "norma/data/characters.h"

namespace norma {
namespace {

using Worth = std::function<double(const ScoredContinuation&)>;

// A text of one character has no length without its first character; then the log-probability is not divided.
double at_least_one(std::int64_t length) {
  return static_cast<double>(std::max<std::int64_t>(length, 1));
}

double log_probability(const ScoredContinuation& of) {
  return of.log_probability;
}
double per_character(const ScoredContinuation& of) {
  return of.log_probability / at_least_one(of.lengths.later_characters);
}
double per_character_of_all(const ScoredContinuation& of) {
  return of.log_probability / at_least_one(of.lengths.characters);
}
double per_byte(const ScoredContinuation& of) {
  return of.log_probability / at_least_one(of.lengths.later_bytes);
}
double per_byte_of_all(const ScoredContinuation& of) {
  return of.log_probability / at_least_one(of.lengths.bytes);
}

std::int64_t best(const ScoredDocument& document, const Worth& worth) {
  std::int64_t chosen = 0;
  double highest = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < document.continuations.size(); ++i) {
    const double value = worth(document.continuations[i]);
    if (value > highest) {
      highest = value;
      chosen = static_cast<std::int64_t>(i);
    }
  }
  return chosen;
}

// A metric that is a mean over documents.
struct MeanMetric {
  TaskMetric metric;
  Worth worth;
  bool chooses;         // 1 when the label has the highest worth; else minus the label's worth, times `factor`
  double factor = 1.0;  // nats to the metric's unit
};

const std::vector<MeanMetric>& metrics() {
  // OLMo multiplies by this many digits of 1 / ln 2.
  constexpr double kBitsPerNat = 1.44269504089;
  static const std::vector<MeanMetric> kMetrics = {
      {TaskMetric::acc, log_probability, true},
      {TaskMetric::len_norm, per_character, true},
      {TaskMetric::len_norm_v2, per_character_of_all, true},
      {TaskMetric::ce_loss, per_character, false},
      {TaskMetric::ce_loss_v2, per_character_of_all, false},
      {TaskMetric::bpb, per_byte, false, kBitsPerNat},
      {TaskMetric::bpb_v2, per_byte_of_all, false, kBitsPerNat},
  };
  return kMetrics;
}

std::optional<double> value_of(const ScoredDocument& document, const MeanMetric& metric) {
  const auto label = static_cast<std::size_t>(document.label);
  NORMA_CHECK(label < document.continuations.size(), "[eval] document ", document.document, " has the label ", label,
              " of ", document.continuations.size());
  if (!metric.chooses) return -metric.worth(document.continuations[label]) * metric.factor;
  if (document.continuations.size() < 2) return std::nullopt;
  return best(document, metric.worth) == document.label ? 1.0 : 0.0;
}

// Counts of a binary decision; all as doubles, for leaving one out.
struct Decisions {
  double hits = 0.0, false_alarms = 0.0, misses = 0.0, others = 0.0;  // of class 0

  double f1() const {
    const double denominator = 2.0 * hits + false_alarms + misses;
    return denominator > 0.0 ? 2.0 * hits / denominator : 0.0;
  }
};

Decisions decide(const std::vector<ScoredDocument>& documents) {
  Decisions all;
  for (const ScoredDocument& document : documents) {
    const bool said = best(document, log_probability) == 0, is = document.label == 0;
    double& count = said ? (is ? all.hits : all.false_alarms) : (is ? all.misses : all.others);
    count += 1.0;
  }
  return all;
}

// The jackknife over documents. Leaving out any document of one kind gives the same score.
Estimate f1_of(const std::vector<ScoredDocument>& documents) {
  const Decisions all = decide(documents);
  const auto n = static_cast<double>(documents.size());
  double sum = 0.0, squares = 0.0;
  for (double Decisions::*const kind :
       {&Decisions::hits, &Decisions::false_alarms, &Decisions::misses, &Decisions::others}) {
    if (all.*kind == 0.0) continue;
    Decisions without = all;
    without.*kind -= 1.0;
    sum += all.*kind * without.f1();
    squares += all.*kind * without.f1() * without.f1();
  }
  Estimate result{all.f1(), std::nullopt, static_cast<std::int64_t>(documents.size())};
  if (n > 1.0) result.standard_error = std::sqrt(std::max((n - 1.0) / n * (squares - sum * sum / n), 0.0));
  return result;
}

}  // namespace

TextLengths text_lengths(std::string_view utf8) {
  const std::string_view later = utf8.substr(first_character_bytes(utf8));
  return {count_characters(utf8), static_cast<std::int64_t>(utf8.size()), count_characters(later),
          static_cast<std::int64_t>(later.size())};
}

std::optional<double> document_value(const ScoredDocument& document, TaskMetric metric) {
  for (const MeanMetric& one : metrics()) {
    if (one.metric == metric) return value_of(document, one);
  }
  return std::nullopt;
}

Estimate mean_of(const std::vector<double>& values) {
  Estimate result;
  result.documents = static_cast<std::int64_t>(values.size());
  if (values.empty()) return result;
  const auto n = static_cast<double>(values.size());
  double sum = 0.0, squares = 0.0;
  for (const double value : values) sum += value;
  result.value = sum / n;
  for (const double value : values) squares += (value - result.value) * (value - result.value);
  if (values.size() > 1) result.standard_error = std::sqrt(squares / (n - 1.0) / n);
  return result;
}

Estimate ratio_of(const std::vector<double>& a, const std::vector<double>& b) {
  Estimate result;
  result.documents = static_cast<std::int64_t>(a.size());
  double sum_a = 0.0, sum_b = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum_a += a[i];
    sum_b += b[i];
  }
  if (sum_b == 0.0) return result;
  result.value = sum_a / sum_b;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double residual = a[i] - result.value * b[i];
    squares += residual * residual;
  }
  const auto n = static_cast<double>(a.size());
  if (a.size() > 1) result.standard_error = std::sqrt(n / (n - 1.0) * squares) / sum_b;
  return result;
}

std::vector<MetricEstimate> task_estimates(const std::vector<ScoredDocument>& documents, bool with_f1) {
  std::vector<MetricEstimate> estimates;
  for (const MeanMetric& metric : metrics()) {
    std::vector<double> values;
    for (const ScoredDocument& document : documents) {
      if (const std::optional<double> value = value_of(document, metric)) values.push_back(*value);
    }
    if (!values.empty()) estimates.push_back({metric.metric, mean_of(values)});
  }
  if (with_f1) estimates.push_back({TaskMetric::f1, f1_of(documents)});
  return estimates;
}

}  // namespace norma
