// The scores of one evaluation, for people.
#include <algorithm>

#include "norma/base/text.h"
#include "norma/study/report.h"

namespace norma {
namespace {

// Columns of a table of tasks.
constexpr TaskMetric kShownMetrics[] = {TaskMetric::acc,     TaskMetric::len_norm, TaskMetric::len_norm_v2,
                                        TaskMetric::ce_loss, TaskMetric::bpb,      TaskMetric::bpb_v2};

std::string with_error(double value, const std::optional<double>& error) {
  return fixed(value, 4) + (error ? cat(" ±", fixed(*error, 4)) : "");
}

std::string metric_cell(const TaskScores& task, TaskMetric metric) {
  const auto found = std::ranges::find(task.metrics, metric_name(metric), &std::pair<std::string, Score>::first);
  return found == task.metrics.end() ? "-" : fixed(found->second.value, 4);
}

std::string sets_table(const EvaluationRecord& results) {
  std::vector<std::vector<std::string>> rows = {
      {"set", "nats/token", "perplexity", "instances", "by document", "bits/byte", "documents"}};
  for (const auto& [label, set] : results.sets) {
    rows.push_back({label, with_error(set.cross_entropy, set.standard_error), fixed(set.perplexity, 2),
                    with_commas(set.instances), "-", "-", "-"});
    if (!set.by_document) continue;
    const auto& [value, error] = set.by_document->nats_per_token;
    rows.back()[4] = with_error(value, error);
    if (const auto& bits = set.by_document->bits_per_byte) {
      rows.back()[5] = with_error(bits->value, bits->standard_error);
    }
    rows.back()[6] = with_commas(set.by_document->documents);
  }
  return aligned(rows, /*left_columns=*/1);
}

std::string tasks_table(const EvaluationRecord& results) {
  std::vector<std::vector<std::string>> rows = {{"task", "metric", "value"}};
  for (const TaskMetric metric : kShownMetrics) rows[0].push_back(metric_name(metric));
  rows[0].emplace_back("documents");
  for (const auto& [name, task] : results.tasks) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {name, metric_name(task.metric), with_error(task.value, task.standard_error)};
    for (const TaskMetric metric : kShownMetrics) row.push_back(metric_cell(task, metric));
    row.push_back(with_commas(task.documents));
  }
  return aligned(rows, /*left_columns=*/1);
}

}  // namespace

std::string results_table(const EvaluationRecord& results) {
  std::string text;
  if (!results.sets.empty()) text += sets_table(results);
  if (!results.sets.empty() && !results.tasks.empty()) text += '\n';
  if (!results.tasks.empty()) text += tasks_table(results);
  return text;
}

}  // namespace norma
