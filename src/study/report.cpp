#include "norma/study/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "norma/base/error.h"
#include "norma/base/json.h"

namespace norma {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 30;
constexpr std::size_t kCurvePoints = 8;
constexpr std::string_view kPlainLabel = "validation";  // of a set that needs no more name than that

struct Run {
  fs::path folder;
  std::string name;
  Json summary;
  std::map<std::string, std::map<std::int64_t, double>> validation;  // label -> step -> cross-entropy
  std::map<std::string, std::string> config;                         // dotted key -> value
  std::string sample;
};

double number_of(const Run& run, const char* key) {
  const auto found = run.summary.find(key);
  if (found == run.summary.end() || !found->is_number()) {
    throw DataError(cat("[report] ", (run.folder / "summary.json").string(), ": '", key, "' must be a number"));
  }
  return found->get<double>();
}

std::string text_of(const Run& run, const char* key) {
  const auto found = run.summary.find(key);
  return found != run.summary.end() && found->is_string() ? found->get<std::string>() : "?";
}

// "eval/books/CrossEntropyLoss" -> "books"; "" for another metric.
std::string validation_label(const std::string& metric) {
  const std::vector<std::string> parts = split(metric, '/');
  return parts.size() == 3 && parts[0] == "eval" && parts[2] == "CrossEntropyLoss" ? parts[1] : "";
}

void read_metrics(Run& run) {
  const fs::path path = run.folder / "metrics.jsonl";
  const std::vector<std::string> lines = split(read_file(path, kMaxFileBytes), '\n');
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const Json line = parse_json(lines[i], cat(path.string(), ":", i + 1));
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) continue;
    for (const auto& [metric, value] : line.items()) {
      const std::string label = validation_label(metric);
      if (!label.empty() && value.is_number()) {
        run.validation[label][line["step"].get<std::int64_t>()] = value.get<double>();
      }
    }
  }
}

// The resolved config as dotted keys; it is written by norma, two spaces a level, one key a line.
void read_config(Run& run) {
  const fs::path path = run.folder / "config.resolved.yaml";
  if (!fs::exists(path)) return;
  std::vector<std::string> section;
  for (const std::string& line : split(read_file(path, kMaxFileBytes), '\n')) {
    const std::size_t indent = line.find_first_not_of(' ');
    const std::size_t colon = line.find(':');
    if (indent == std::string::npos || line[indent] == '#' || colon == std::string::npos) continue;
    section.resize(std::min(section.size(), indent / 2));
    section.push_back(line.substr(indent, colon - indent));
    const std::string value = trim(line.substr(colon + 1));
    if (!value.empty()) run.config[join(section, ".")] = value;
  }
}

Run read_run(const fs::path& folder) {
  Run run{folder, folder.filename().string(), read_json(folder / "summary.json", kMaxFileBytes), {}, {}, ""};
  run.name = text_of(run, "name");
  read_metrics(run);
  read_config(run);
  if (fs::exists(folder / "sample.txt")) run.sample = read_file(folder / "sample.txt", kMaxFileBytes);
  return run;
}

std::string row(const std::vector<std::string>& cells) {
  return "| " + join(cells, " | ") + " |\n";
}

std::string header(const std::vector<std::string>& cells) {
  return row(cells) + row(std::vector<std::string>(cells.size(), "---"));
}

std::set<std::string> labels_of(const std::vector<Run>& runs) {
  std::set<std::string> labels;
  for (const Run& run : runs) {
    for (const auto& [label, curve] : run.validation) labels.insert(label);
  }
  return labels;
}

// "validation: books"; a set that is itself called so stands once.
std::string title_of(const std::string& label) {
  return label == kPlainLabel ? label : "validation: " + label;
}

std::string loss_text(double loss) {
  return cat(fixed(loss, 4), " (ppl ", fixed(std::exp(loss), 1), ")");
}

std::string results_table(const std::vector<Run>& runs, const std::set<std::string>& labels,
                          const std::optional<Json>& baseline) {
  std::vector<std::string> names = {"run", "placement", "parameters", "steps", "tokens", "train loss"};
  for (const std::string& label : labels) names.push_back(title_of(label));
  names.insert(names.end(), {"tokens/s", "time"});
  std::string text = header(names);
  for (const Run& run : runs) {
    std::vector<std::string> cells = {run.name,
                                      text_of(run, "preset"),
                                      with_commas(static_cast<std::int64_t>(number_of(run, "parameters"))),
                                      with_commas(static_cast<std::int64_t>(number_of(run, "step"))),
                                      with_commas(static_cast<std::int64_t>(number_of(run, "tokens"))),
                                      fixed(number_of(run, "final_loss"), 4)};
    for (const std::string& label : labels) {
      const auto curve = run.validation.find(label);
      cells.push_back(curve == run.validation.end() ? "-" : loss_text(curve->second.rbegin()->second));
    }
    cells.push_back(human_count(number_of(run, "tokens_per_second")));
    cells.push_back(human_seconds(number_of(run, "seconds")));
    text += row(cells);
  }
  if (!baseline) return text;
  for (const char* model : {"unigram", "bigram"}) {
    std::vector<std::string> cells = {cat(model, " counts"), "-", "-", "-", "-", "-"};
    for (std::size_t i = 0; i < labels.size(); ++i) {
      cells.push_back(loss_text(baseline->at(cat(model, "_nats")).get<double>()));
    }
    cells.insert(cells.end(), {"-", "-"});
    text += row(cells);
  }
  return text;
}

// At most kCurvePoints steps, the last one included.
std::string curve_table(const std::vector<Run>& runs, const std::string& label) {
  std::set<std::int64_t> steps;
  for (const Run& run : runs) {
    const auto curve = run.validation.find(label);
    if (curve == run.validation.end()) continue;
    for (const auto& [step, loss] : curve->second) steps.insert(step);
  }
  const std::vector<std::int64_t> all(steps.begin(), steps.end());
  const std::size_t stride = (all.size() + kCurvePoints - 1) / kCurvePoints;
  std::vector<std::string> names = {"step"};
  for (const Run& run : runs) names.push_back(run.name);
  std::string text = header(names);
  for (std::size_t i = all.size() % stride == 0 ? stride - 1 : all.size() % stride - 1; i < all.size(); i += stride) {
    std::vector<std::string> cells = {std::to_string(all[i])};
    for (const Run& run : runs) {
      const auto curve = run.validation.find(label);
      const bool known = curve != run.validation.end() && curve->second.count(all[i]) > 0;
      cells.push_back(known ? fixed(curve->second.at(all[i]), 4) : "-");
    }
    text += row(cells);
  }
  return text;
}

std::string differences_table(const std::vector<Run>& runs) {
  std::set<std::string> keys;
  for (const Run& run : runs) {
    for (const auto& [key, value] : run.config) keys.insert(key);
  }
  std::vector<std::string> names = {"key"};
  for (const Run& run : runs) names.push_back(run.name);
  std::string rows;
  for (const std::string& key : keys) {
    std::vector<std::string> cells = {"`" + key + "`"};
    std::set<std::string> values;
    for (const Run& run : runs) {
      const auto found = run.config.find(key);
      cells.push_back(found == run.config.end() ? "-" : found->second);
      values.insert(cells.back());
    }
    if (values.size() > 1) rows += row(cells);
  }
  return rows.empty() ? "The runs' configs are equal.\n" : header(names) + rows;
}

std::optional<Json> read_baseline(const ReportInput& input) {
  if (!input.baseline) return std::nullopt;
  const Json json = read_json(*input.baseline, kMaxFileBytes);
  for (const char* key : {"unigram_nats", "bigram_nats"}) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_number()) {
      throw DataError(cat("[report] ", input.baseline->string(), ": '", key, "' must be a number"));
    }
  }
  return json;
}

}  // namespace

std::string make_report(const ReportInput& input) {
  const std::optional<Json> baseline = read_baseline(input);
  std::vector<Run> runs;
  for (const fs::path& folder : input.runs) runs.push_back(read_run(folder));
  const std::set<std::string> labels = labels_of(runs);
  std::string text = "# Norma: comparison of runs\n\n";
  if (!input.introduction.empty()) text += input.introduction + "\n\n";
  text += "Losses are cross-entropies in nats per token.\n\n" + results_table(runs, labels, baseline);
  for (const std::string& label : labels) {
    text +=
        cat("\n## Validation over time", label == kPlainLabel ? "" : ": " + label, "\n\n", curve_table(runs, label));
  }
  if (runs.size() > 1) text += "\n## Config keys that differ\n\n" + differences_table(runs);
  for (const Run& run : runs) {
    if (!run.sample.empty()) text += cat("\n## Sample: ", run.name, "\n\n```text\n", trim(run.sample), "\n```\n");
  }
  return text;
}

}  // namespace norma
