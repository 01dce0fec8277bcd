#include "predictions.h"

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_set>

#include "norma/base/json.h"

namespace norma {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{4} << 30;
constexpr std::uint64_t kMaxResultsBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxContinuations = 10'000;
constexpr std::size_t kMaxNameBytes = 4096;
constexpr std::size_t kFirstKeyBytes = 4096;
constexpr int kFormat = 1;
constexpr const char* kPredictionsKey = "norma_predictions";
constexpr const char* kResultsKey = "norma_results";

// Short and printable, because it is shown.
std::string shown_text(const JsonObject& record, const char* key) {
  const std::string& text = record.text(key);
  const bool shown = std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  if (text.size() > kMaxNameBytes || !shown) {
    record.fail_at(key, "must be a short text without control characters");
  }
  return text;
}

void append_lengths(const JsonObject& record, const char* key, std::size_t count, std::vector<std::int64_t>& lengths) {
  const std::vector<std::int64_t> values = record.integers(key);
  if (values.size() != count) {
    record.fail_at(key, "must be as long as 'log_probabilities' (", count, "); got ", values.size());
  }
  lengths.insert(lengths.end(), values.begin(), values.end());
}

std::array<double, kDocumentMetrics> read_scores(const JsonObject& scores) {
  std::array<double, kDocumentMetrics> values{};
  values.fill(std::numeric_limits<double>::quiet_NaN());
  for (std::size_t m = 0; m < kDocumentMetrics; ++m) {
    const std::string name(kStudyMetrics[m].name);
    if (!scores.has(name)) continue;
    values[m] = scores.number(name);
    if (kStudyMetrics[m].is_accuracy && values[m] != 0.0 && values[m] != 1.0) {
      scores.fail_at(name, "must be 0 or 1; got ", shortest(values[m]));
    }
  }
  return values;
}

PredictedDocument read_document(const JsonObject& record) {
  PredictedDocument document;
  document.document = record.integer("document");
  document.label = record.integer("label");
  const std::vector<double> log_probabilities = record.numbers("log_probabilities");
  const std::size_t count = log_probabilities.size();
  if (count == 0 || count > kMaxContinuations) {
    record.fail_at("log_probabilities", "must hold 1 to ", kMaxContinuations, " numbers; got ", count);
  }
  if (document.label >= static_cast<std::int64_t>(count)) {
    record.fail_at("label", "must be one of ", count, " continuations; got ", document.label, " from 0");
  }
  document.chosen = std::ranges::max_element(log_probabilities) - log_probabilities.begin();
  append_lengths(record, "characters", count, document.lengths);
  append_lengths(record, "bytes", count, document.lengths);
  document.scores = read_scores(record.object("scores"));
  return document;
}

// Sorts documents into their tasks.
class Collector {
 public:
  void add(const JsonObject& record) {
    const std::string name = shown_text(record, "task"), metric = shown_text(record, "metric");
    const std::size_t index = metric_index(metric);
    if (index == kNoMetric) {
      record.fail_at("metric", "must be one of ", join(metric_names(), ", "), "; got '", metric, "'");
    }
    const auto [place, is_new] = places_.emplace(name, tasks_.size());
    if (is_new) {
      tasks_.push_back({name, index, {}});
      seen_.emplace_back();
    }
    PredictedTask& task = tasks_[place->second];
    if (task.metric != index) {
      record.fail("task ", name, " must have one metric; got '", metric, "' after '", kStudyMetrics[task.metric].name,
                  "'");
    }
    task.documents.push_back(read_document(record));
    if (!seen_[place->second].insert(task.documents.back().document).second) {
      record.fail("document ", task.documents.back().document, " of task ", name, " comes again");
    }
  }
  std::vector<PredictedTask> take() { return std::move(tasks_); }

 private:
  std::vector<PredictedTask> tasks_;
  std::map<std::string, std::size_t> places_;
  std::vector<std::unordered_set<std::int64_t>> seen_;  // documents of each task
};

ComparedModel read_header(const JsonObject& record, const fs::path& path) {
  if (record.integer(kPredictionsKey) != kFormat) {
    record.fail_at(kPredictionsKey, "must be ", kFormat, ", the format that this program reads; got ",
                   record.integer(kPredictionsKey));
  }
  ComparedModel model;
  model.file = path;
  model.model = shown_text(record, "model");
  if (!record.at("step").is_null()) model.step = record.integer("step");
  model.tokenizer_checksum = shown_text(record, "tokenizer_checksum");
  model.context_length = record.integer("context_length");
  return model;
}

// Calls `take` with the number and text of every line that is not empty.
template <class Take>
void for_each_line(std::string_view text, const fs::path& path, const Take& take) {
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const std::string where = cat(path.string(), ":", ++number);
    if (line.size() > kMaxLineBytes) {
      throw DataError(cat("[compare] ", where, ": a line must have at most ", human_bytes(kMaxLineBytes), "; got ",
                          human_bytes(static_cast<double>(line.size()))));
    }
    if (!trim(line).empty()) take(where, line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Either file says in its first key what it is.
std::size_t place_of_key(std::string_view text, const char* key) {
  return text.substr(0, kFirstKeyBytes).find(cat('"', key, '"'));
}

// A path in a results file only names what is read next, and that must say that it holds predictions: it may lie
// anywhere.
fs::path predictions_of_results(const fs::path& path) {
  const Json content = read_json(path, kMaxResultsBytes);
  const JsonObject results(content, cat("[compare] ", path.string()));
  if (!results.has("predictions")) {
    results.fail(
        "these results came without predictions, which a comparison needs; give norma eval --predictions FILE");
  }
  return path.parent_path() / shown_text(results, "predictions");
}

Predictions parse_predictions(std::string_view text, const fs::path& path) {
  if (place_of_key(text.substr(0, text.find('\n')), kPredictionsKey) == std::string_view::npos) {
    throw DataError(cat("[compare] ", path.string(), ":1: must be predictions or results of norma eval: a JSON object ",
                        "with the key '", kPredictionsKey, "' or '", kResultsKey, "'"));
  }
  Predictions predictions;
  Collector collector;
  bool has_header = false;
  for_each_line(text, path, [&](const std::string& where, std::string_view line) {
    const Json content = parse_json(line, where);
    const JsonObject record(content, cat("[compare] ", where));
    if (has_header) return collector.add(record);
    predictions.model = read_header(record, path);
    has_header = true;
  });
  predictions.tasks = collector.take();
  return predictions;
}

}  // namespace

std::size_t metric_index(std::string_view name) {
  const auto found = std::find_if(kStudyMetrics.begin(), kStudyMetrics.end(),
                                  [&](const StudyMetric& one) { return one.name == name; });
  return static_cast<std::size_t>(found - kStudyMetrics.begin());
}

std::vector<std::string> metric_names() {
  std::vector<std::string> names;
  for (const StudyMetric& metric : kStudyMetrics) names.emplace_back(metric.name);
  return names;
}

Predictions read_predictions(const fs::path& path) {
  const std::string text = read_file(path, kMaxFileBytes);
  if (place_of_key(text, kResultsKey) >= place_of_key(text, kPredictionsKey)) return parse_predictions(text, path);
  const fs::path followed = predictions_of_results(path);
  return parse_predictions(read_file(followed, kMaxFileBytes), followed);
}

}  // namespace norma
