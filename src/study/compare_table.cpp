// A comparison as a table for people and as JSON for programs.
#include "norma/base/text.h"
#include "norma/study/compare.h"

namespace norma {
namespace {

constexpr double kSignificance = 0.05;
constexpr std::size_t kLeftColumns = 2;  // the rest are numbers

std::string number(double value) {
  return fixed(value, 4);
}

std::string with_sign(double value) {
  return (value < 0.0 ? "" : "+") + number(value);
}

std::string p_text(double p) {
  return p < 0.0001 ? "<0.0001" : number(p);
}

std::vector<std::string> pair_cells(const PairedDifference& pair) {
  std::vector<std::string> cells = {number(pair.a), number(pair.b), with_sign(pair.difference)};
  if (!pair.standard_error) {
    cells.insert(cells.end(), {"-", "-", "-  "});
    return cells;
  }
  cells.push_back(number(*pair.standard_error));
  cells.push_back(cat(with_sign(*pair.low), " to ", with_sign(*pair.high)));
  cells.push_back(p_text(*pair.p_value) + (*pair.p_value < kSignificance ? " *" : "  "));
  return cells;
}

std::vector<std::string> task_cells(const TaskComparison& task) {
  std::vector<std::string> cells = {task.task, metric_name(task.metric), with_commas(task.documents)};
  const std::vector<std::string> pair = pair_cells(task.pair);
  cells.insert(cells.end(), pair.begin(), pair.end());
  if (task.discordant) {
    cells.insert(cells.end(), {with_commas(task.discordant->only_a), with_commas(task.discordant->only_b),
                               p_text(task.discordant->p_value)});
  } else {
    cells.insert(cells.end(), {"-", "-", "-"});
  }
  return cells;
}

std::vector<std::string> mean_cells(const MeanComparison& mean) {
  std::vector<std::string> cells = {cat("mean of ", mean.tasks, " tasks"), mean.unit, ""};
  const std::vector<std::string> pair = pair_cells(mean.pair);
  cells.insert(cells.end(), pair.begin(), pair.end());
  return cells;
}

std::string model_line(const char* letter, const ComparedModel& model) {
  const std::string step = model.model.step ? cat(", step ", *model.model.step) : "";
  return cat(letter, "  ", model.model.path, step, "  (", model.file.string(), ")\n");
}

std::string pair_table(const ComparedModel& first, const ModelComparison& comparison) {
  std::vector<std::vector<std::string>> rows = {{"task", "metric", "documents", "A", "B", "B - A", "std. error",
                                                 "95 % interval", "p  ", "A only", "B only", "McNemar p"}};
  for (const TaskComparison& task : comparison.tasks) rows.push_back(task_cells(task));
  for (const MeanComparison& mean : comparison.means) rows.push_back(mean_cells(mean));
  std::string text = model_line("A", first) + model_line("B", comparison.other) + "\n" + aligned(rows, kLeftColumns);
  text +=
      "\n* p < 0.05. Losses and bits are better when lower. A only, B only: documents that only this model gets "
      "right.\n";
  for (const std::string& note : comparison.notes) text += cat("Note: ", note, ".\n");
  return text;
}

Json json_of(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json json_of(const ComparedModel& compared) {
  const EvaluatedModel& model = compared.model;
  return {{"file", compared.file.string()},
          {"model", model.path},
          {"step", model.step ? Json(*model.step) : Json(nullptr)},
          {"tokenizer_checksum", model.tokenizer_checksum},
          {"context_length", model.context_length}};
}

void add_pair(const PairedDifference& pair, Json& json) {
  json["a"] = pair.a;
  json["b"] = pair.b;
  json["difference"] = pair.difference;
  json["standard_error"] = json_of(pair.standard_error);
  json["low"] = json_of(pair.low);
  json["high"] = json_of(pair.high);
  json["p_value"] = json_of(pair.p_value);
}

Json json_of(const TaskComparison& task) {
  Json json = {{"metric", metric_name(task.metric)}, {"documents", task.documents}};
  add_pair(task.pair, json);
  if (task.discordant) {
    json["only_a"] = task.discordant->only_a;
    json["only_b"] = task.discordant->only_b;
    json["mcnemar_p_value"] = task.discordant->p_value;
  }
  return json;
}

Json json_of(const ModelComparison& comparison) {
  Json json = {{"model", json_of(comparison.other)}, {"tasks", Json::object()}, {"means", Json::object()}};
  for (const TaskComparison& task : comparison.tasks) json["tasks"][task.task] = json_of(task);
  for (const MeanComparison& mean : comparison.means) {
    Json row = {{"tasks", mean.tasks}};
    add_pair(mean.pair, row);
    json["means"][mean.unit] = std::move(row);
  }
  json["notes"] = comparison.notes;
  return json;
}

}  // namespace

std::string compare_table(const Comparison& comparison) {
  std::string text;
  for (const ModelComparison& other : comparison.others) {
    text += (text.empty() ? "" : "\n") + pair_table(comparison.first, other);
  }
  return text;
}

Json to_json(const Comparison& comparison) {
  Json others = Json::array();
  for (const ModelComparison& other : comparison.others) others.push_back(json_of(other));
  return {{"norma_comparison", 1}, {"first", json_of(comparison.first)}, {"others", std::move(others)}};
}

}  // namespace norma
