#include "norma/study/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/config/yaml.h"
#include "norma/record/metrics.h"
#include "norma/record/run_folder.h"
#include "norma/record/summary.h"

namespace norma {
namespace {

using Rows = std::vector<std::vector<std::string>>;  // the first one names the columns

constexpr std::size_t kCurvePoints = 8;
constexpr std::string_view kPlainLabel = "validation";  // of a set that needs no other name
constexpr const char* kUnknown = "-";

using Curve = std::map<std::int64_t, double>;  // step -> cross-entropy

struct Run {
  std::string name, preset;
  std::optional<Summary> summary;           // absent while a run trains, and after it diverged
  std::map<std::string, Curve> validation;  // by label
  std::map<std::string, std::string> config;
  Baseline baseline;
  std::string sample;  // as text; "" without one
};

// ---- Reading ----

// The prompt and what the model wrote after it.
std::string sample_text(const fs::path& folder) {
  std::vector<std::string> texts;
  for (const GeneratedText& sample : read_samples(folder)) texts.push_back(sample.prompt + sample.text);
  return join(texts, "\n\n");
}

Run read_run(const fs::path& folder) {
  const RunConfig config = read_resolved_config(folder);
  Run run;
  run.name = config.run.name;
  run.preset = config.norm.preset;
  run.config = values_by_key(config);
  if (fs::exists(folder / kSummaryFile)) run.summary = read_summary(folder);
  if (fs::exists(folder / kMetricsFile)) {
    read_metrics(folder, [&](std::int64_t step, const Metrics& values) {
      for (const auto& [name, value] : values) {
        if (const auto label = metrics::validation_label(name)) run.validation[*label][step] = value;
      }
    });
  }
  run.baseline = read_run_baseline(folder);
  run.sample = sample_text(folder);
  return run;
}

std::set<std::string> labels_of(const std::vector<Run>& runs) {
  std::set<std::string> labels;
  for (const Run& run : runs) {
    for (const auto& [label, curve] : run.validation) labels.insert(label);
  }
  return labels;
}

// ---- Tables ----

// "validation: books"; a set that is itself called so is named once.
std::string title_of(const std::string& label) {
  return label == kPlainLabel ? label : "validation: " + label;
}

std::string loss_text(double loss) {
  return cat(fixed(loss, 4), " (ppl ", fixed(std::exp(loss), 1), ")");
}

std::string last_loss(const Run& run, const std::string& label) {
  const auto curve = run.validation.find(label);
  return curve == run.validation.end() ? kUnknown : loss_text(curve->second.rbegin()->second);
}

std::vector<std::string> run_row(const Run& run, const std::set<std::string>& labels) {
  std::vector<std::string> row = {run.name, run.preset};
  if (run.summary) {
    row.insert(row.end(), {with_commas(run.summary->parameters), with_commas(run.summary->step),
                           with_commas(run.summary->tokens), fixed(run.summary->final_loss, 4)});
  } else {
    row.insert(row.end(), 4, kUnknown);
  }
  for (const std::string& label : labels) row.push_back(last_loss(run, label));
  // Older programs wrote the speed of their last steps, which does not compare.
  const bool has_speed = run.summary && run.summary->training_seconds;
  row.push_back(has_speed ? human_count(run.summary->tokens_per_second) : kUnknown);
  row.push_back(run.summary ? human_seconds(run.summary->seconds) : kUnknown);
  return row;
}

// Two rows of what counting reaches: `whose` tells several baselines apart.
void add_baseline_rows(const Baseline& baseline, const std::string& whose, const std::set<std::string>& labels,
                       Rows& rows) {
  const auto add = [&](const char* model, double BaselineScores::*nats) {
    std::vector<std::string> row = {cat(model, " counts", whose)};
    row.insert(row.end(), 5, kUnknown);
    for (const std::string& label : labels) {
      const BaselineScores* scores = scores_of(baseline, label);
      row.push_back(scores == nullptr ? kUnknown : loss_text(scores->*nats));
    }
    row.insert(row.end(), 2, kUnknown);
    rows.push_back(std::move(row));
  };
  add("unigram", &BaselineScores::unigram_nats);
  add("bigram", &BaselineScores::bigram_nats);
}

Rows runs_table(const std::vector<Run>& runs, const std::set<std::string>& labels,
                const std::optional<Baseline>& given_baseline) {
  Rows rows = {{"run", "placement", "parameters", "steps", "tokens", "train loss"}};
  for (const std::string& label : labels) rows[0].push_back(title_of(label));
  rows[0].insert(rows[0].end(), {"tokens/s", "time"});
  for (const Run& run : runs) rows.push_back(run_row(run, labels));
  if (given_baseline) {
    add_baseline_rows(*given_baseline, "", labels, rows);
    return rows;
  }
  std::vector<const Run*> distinct;  // runs whose baselines differ
  for (const Run& run : runs) {
    const auto has_same = [&](const Run* other) { return other->baseline == run.baseline; };
    if (!run.baseline.empty() && std::ranges::none_of(distinct, has_same)) distinct.push_back(&run);
  }
  for (const Run* run : distinct) {
    add_baseline_rows(run->baseline, distinct.size() > 1 ? cat(" (", run->name, ")") : "", labels, rows);
  }
  return rows;
}

// At most kCurvePoints steps, the last one included.
Rows curve_table(const std::vector<Run>& runs, const std::string& label) {
  std::set<std::int64_t> all_steps;
  Rows rows = {{"step"}};
  for (const Run& run : runs) {
    rows[0].push_back(run.name);
    const auto curve = run.validation.find(label);
    if (curve == run.validation.end()) continue;
    for (const auto& [step, loss] : curve->second) all_steps.insert(step);
  }
  const std::vector<std::int64_t> steps(all_steps.begin(), all_steps.end());
  const std::size_t stride = (steps.size() + kCurvePoints - 1) / kCurvePoints;
  for (std::size_t i = (steps.size() - 1) % stride; i < steps.size(); i += stride) {
    std::vector<std::string>& row = rows.emplace_back();
    row.push_back(with_commas(steps[i]));
    for (const Run& run : runs) {
      const auto curve = run.validation.find(label);
      const bool known = curve != run.validation.end() && curve->second.contains(steps[i]);
      row.push_back(known ? fixed(curve->second.at(steps[i]), 4) : kUnknown);
    }
  }
  return rows;
}

Rows differences_table(const std::vector<Run>& runs) {
  Rows rows = {{"key"}};
  std::set<std::string> keys;
  for (const Run& run : runs) {
    rows[0].push_back(run.name);
    for (const auto& [key, value] : run.config) keys.insert(key);
  }
  for (const std::string& key : keys) {
    std::vector<std::string> row = {cat("`", key, "`")};
    for (const Run& run : runs) row.push_back(run.config.contains(key) ? run.config.at(key) : kUnknown);
    if (!std::equal(row.begin() + 2, row.end(), row.begin() + 1)) rows.push_back(std::move(row));
  }
  return rows;
}

// `path` itself when it is a run folder, else the run folders inside of it.
void add_runs(const fs::path& path, std::vector<fs::path>& folders) {
  if (is_run_folder(path)) return folders.push_back(path);
  std::set<fs::path> inside;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    if (is_run_folder(entry.path())) inside.insert(entry.path());
  }
  if (inside.empty()) {
    throw DataError(
        cat("[report] ", path.string(), " is no run folder and holds none: a run folder has a ", kResolvedConfigFile));
  }
  folders.insert(folders.end(), inside.begin(), inside.end());
}

}  // namespace

Report make_report(const ReportInput& input) {
  const std::optional<Baseline> baseline =
      input.baseline ? std::optional(read_baseline(*input.baseline)) : std::nullopt;
  std::vector<fs::path> folders;
  for (const fs::path& path : input.runs) add_runs(path, folders);
  std::vector<Run> runs;
  for (const fs::path& folder : folders) runs.push_back(read_run(folder));
  const std::set<std::string> labels = labels_of(runs);
  const Rows results = runs_table(runs, labels, baseline);
  std::string text = "# Norma: comparison of runs\n\n";
  if (!input.introduction.empty()) text += input.introduction + "\n\n";
  text += "Losses are cross-entropies in nats per token.\n\n" + markdown(results);
  for (const std::string& label : labels) {
    text += cat("\n## Validation over time", label == kPlainLabel ? "" : ": " + label, "\n\n",
                markdown(curve_table(runs, label)));
  }
  if (runs.size() > 1) {
    const Rows differences = differences_table(runs);
    text += cat("\n## Config keys that differ\n\n",
                differences.size() > 1 ? markdown(differences) : "The runs' configs are equal.\n");
  }
  for (const Run& run : runs) {
    if (!run.sample.empty()) text += cat("\n## Sample: ", run.name, "\n\n```text\n", trim(run.sample), "\n```\n");
  }
  return {text, aligned(results, /*left_columns=*/2)};
}

}  // namespace norma
