#include "predictions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>

#include "norma/base/error.h"

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

// A JSON object of a file; every access checks the type and names file, line and key.
class Record {
 public:
  Record(Json value, std::string where) : value_(std::move(value)), where_(std::move(where)) {
    if (!value_.is_object()) fail("must be a JSON object");
  }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw DataError(cat("[compare] ", where_, ": ", parts...));
  }

  bool has(const char* key) const { return value_.contains(key); }

  const Json& at(const char* key) const {
    const auto found = value_.find(key);
    if (found == value_.end()) fail("'", key, "' is missing");
    return *found;
  }

  std::int64_t integer(const char* key) const { return integer_of(at(key), key); }

  // Printable, because it is shown.
  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) fail("'", key, "' must be a string; got ", value.type_name());
    const auto& text = value.get_ref<const std::string&>();
    const bool shown = std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
    if (text.size() > kMaxNameBytes || !shown) fail("'", key, "' must be a short text without control characters");
    return text;
  }

  double number_of(const Json& value, std::string_view key) const {
    const double number = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!std::isfinite(number)) fail("'", key, "' must hold finite numbers; got ", value.dump().substr(0, 40));
    return number;
  }

  std::int64_t integer_of(const Json& value, std::string_view key) const {
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() || value.get<std::uint64_t>() <= std::uint64_t{INT64_MAX});
    if (!fits || value.get<std::int64_t>() < 0) {
      fail("'", key, "' must hold whole numbers from 0; got ", value.dump().substr(0, 40));
    }
    return value.get<std::int64_t>();
  }

  const Json& array(const char* key) const {
    const Json& value = at(key);
    if (!value.is_array() || value.empty() || value.size() > kMaxContinuations) {
      fail("'", key, "' must be a list of 1 to ", kMaxContinuations, " numbers");
    }
    return value;
  }

 private:
  Json value_;
  std::string where_;
};

Record parse_record(std::string_view text, const std::string& where) {
  return {parse_json(text, where), where};
}

void append_lengths(const Record& record, const char* key, std::size_t count, std::vector<std::int64_t>& lengths) {
  const Json& values = record.array(key);
  if (values.size() != count) {
    record.fail("'", key, "' must be as long as 'log_probabilities' (", count, "); got ", values.size());
  }
  for (const Json& value : values) lengths.push_back(record.integer_of(value, key));
}

std::array<double, kDocumentMetrics> read_scores(const Record& record) {
  const Json& scores = record.at("scores");
  if (!scores.is_object()) record.fail("'scores' must be an object");
  std::array<double, kDocumentMetrics> values{};
  values.fill(std::numeric_limits<double>::quiet_NaN());
  for (std::size_t m = 0; m < kDocumentMetrics; ++m) {
    const auto found = scores.find(std::string(kStudyMetrics[m].name));
    if (found == scores.end()) continue;
    values[m] = record.number_of(*found, kStudyMetrics[m].name);
    if (kStudyMetrics[m].is_accuracy && values[m] != 0.0 && values[m] != 1.0) {
      record.fail("'", kStudyMetrics[m].name, "' must be 0 or 1; got ", shortest(values[m]));
    }
  }
  return values;
}

PredictedDocument read_document(const Record& record) {
  PredictedDocument document;
  document.document = record.integer("document");
  document.label = record.integer("label");
  const Json& log_probabilities = record.array("log_probabilities");
  const std::size_t count = log_probabilities.size();
  if (document.label >= static_cast<std::int64_t>(count)) {
    record.fail("'label' must be one of ", count, " continuations; got ", document.label, " from 0");
  }
  double highest = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < count; ++i) {
    const double value = record.number_of(log_probabilities[i], "log_probabilities");
    if (value > highest) {
      highest = value;
      document.chosen = static_cast<std::int64_t>(i);
    }
  }
  append_lengths(record, "characters", count, document.lengths);
  append_lengths(record, "bytes", count, document.lengths);
  document.scores = read_scores(record);
  return document;
}

// Sorts documents into their tasks and counts numbers that come again.
class Collector {
 public:
  void add(const Record& record) {
    const std::string name = record.text("task"), metric = record.text("metric");
    const std::size_t index = metric_index(metric);
    if (index == kNoMetric) {
      record.fail("'metric' must be one of ", join(metric_names(), ", "), "; got '", metric, "'");
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
    task.documents.back().occurrence = seen_[place->second][task.documents.back().document]++;
  }
  std::vector<PredictedTask> take() { return std::move(tasks_); }

 private:
  std::vector<PredictedTask> tasks_;
  std::map<std::string, std::size_t> places_;
  std::vector<std::unordered_map<std::int64_t, std::int64_t>> seen_;  // of each task
};

ComparedModel read_header(const Record& record, const fs::path& path) {
  if (record.integer(kPredictionsKey) != kFormat) {
    record.fail("'", kPredictionsKey, "' must be ", kFormat, ", the format that this program reads; got ",
                record.integer(kPredictionsKey));
  }
  ComparedModel model;
  model.file = path;
  model.model = record.text("model");
  if (!record.at("step").is_null()) model.step = record.integer("step");
  model.tokenizer_checksum = record.text("tokenizer_checksum");
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
  const Record results(read_json(path, kMaxResultsBytes), path.string());
  if (!results.has("predictions")) {
    results.fail(
        "these results came without predictions, which a comparison needs; give norma eval --predictions FILE");
  }
  return path.parent_path() / results.text("predictions");
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
    const Record record = parse_record(line, where);
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
