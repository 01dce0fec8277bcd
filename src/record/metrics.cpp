#include "norma/record/metrics.h"

#include <cmath>
#include <limits>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/record/run_folder.h"

#include "lines.h"
#include "tensorboard.h"

namespace norma {
namespace metrics {
namespace {

constexpr std::string_view kEvaluation = "eval/";
constexpr std::string_view kLoss = "/CrossEntropyLoss";
constexpr const char* kParameterKinds[] = {"param", "grad", "exp_avg", "exp_avg_sq"};
constexpr const char* kStatistics[] = {"min", "max", "avg", "norm"};

}  // namespace

std::string expert_share(std::int64_t layer, std::size_t expert) {
  return cat("train/TokensPercentage/layer", layer, "/expert", expert);
}
std::string expert_tokens(std::int64_t layer, std::size_t expert) {
  return cat("train/TokensTotal/layer", layer, "/expert", expert);
}
std::string load_ratio(std::int64_t layer) {
  return cat("train/MaxOverMeanLoad/layer", layer);
}
std::string router_entropy(std::int64_t layer) {
  return cat("train/RouterEntropy/layer", layer);
}

std::string parameter(ParameterKind kind, std::string_view tensor, Statistic statistic) {
  return cat("optim/", kParameterKinds[static_cast<std::size_t>(kind)], "/", tensor, ".",
             kStatistics[static_cast<std::size_t>(statistic)]);
}

std::string validation_loss(std::string_view label) {
  return cat(kEvaluation, label, kLoss);
}
std::string validation_perplexity(std::string_view label) {
  return cat(kEvaluation, label, "/Perplexity");
}
std::string document_loss(std::string_view label) {
  return cat(kEvaluation, label, "/TokenCrossEntropyLoss");
}
std::string bits_per_byte(std::string_view label) {
  return cat(kEvaluation, label, "/BitsPerByte");
}

// Losses and bits stand apart, as in OLMo: eval/downstream/piqa_len_norm, but eval/downstream_bpb/piqa_bpb.
std::string task_score(std::string_view task, std::string_view task_metric) {
  const bool apart = task_metric == "ce_loss" || task_metric == "bpb";
  return cat(kEvaluation, "downstream", apart ? cat("_", task_metric) : "", "/", task, "_", task_metric);
}

std::optional<std::string> validation_label(std::string_view name) {
  const bool matches =
      name.size() > kEvaluation.size() + kLoss.size() && name.starts_with(kEvaluation) && name.ends_with(kLoss);
  if (!matches) return std::nullopt;
  name.remove_prefix(kEvaluation.size());
  name.remove_suffix(kLoss.size());
  return std::string(name);
}

}  // namespace metrics

namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;  // every statistic of every parameter stands on one line
constexpr const char* kStepKey = "step";

Json number_json(double value) {
  if (std::isfinite(value)) return value;
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

double number_of(const JsonObject& line, const std::string& name, const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  line.fail_at(name, "must be a number, 'nan', 'inf' or '-inf'");
}

// A line that a crash damaged counts as later.
bool is_of_step_up_to(std::int64_t last, std::string_view line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.contains(kStepKey) && json[kStepKey].is_number_integer() &&
         json[kStepKey].get<std::int64_t>() <= last;
}

// Keeps the whole lines of steps up to `resume_step`.
void drop_later_steps(const fs::path& path, std::int64_t resume_step) {
  if (!fs::exists(path)) return;
  const MappedFile file(path);
  std::string_view rest = text_of(file);
  std::vector<std::string_view> kept;  // stretches of the file
  std::size_t kept_bytes = 0;
  for (std::size_t end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
    const std::string_view line = rest.substr(0, end + 1);
    rest.remove_prefix(line.size());
    if (!is_of_step_up_to(resume_step, line)) continue;
    kept_bytes += line.size();
    if (!kept.empty() && kept.back().data() + kept.back().size() == line.data()) {
      kept.back() = {kept.back().data(), kept.back().size() + line.size()};
    } else {
      kept.push_back(line);
    }
  }
  if (kept_bytes == file.bytes().size()) return;
  StagedPath shorter(path, "metrics");
  OutputFile out(shorter.path(), OutputFile::Mode::truncate);
  for (const std::string_view stretch : kept) out.write(stretch);
  out.close();
  shorter.publish();
}

}  // namespace

MetricsWriter::MetricsWriter(const fs::path& run_folder, MetricsOptions options) {
  const fs::path path = run_folder / kMetricsFile;
  drop_later_steps(path, options.resume_step);
  lines_ = std::make_unique<OutputFile>(path, OutputFile::Mode::append);
  if (options.tensorboard) events_ = std::make_unique<TensorboardWriter>(run_folder, options.resume_step);
}

MetricsWriter::~MetricsWriter() = default;

void MetricsWriter::write(std::int64_t step, const Metrics& metrics) {
  Json line;
  line[kStepKey] = step;
  for (const auto& [name, value] : metrics) line[name] = number_json(value);
  lines_->write(line.dump() + "\n");
  if (events_) events_->write(step, metrics);
}

void read_metrics(const fs::path& run_folder, const std::function<void(std::int64_t step, const Metrics&)>& take) {
  const fs::path path = run_folder / kMetricsFile;
  const MappedFile file(path);
  const std::string_view text = text_of(file);
  const std::string_view whole_lines = text.substr(0, text.rfind('\n') + 1);  // none: npos + 1 is 0
  for_each_line(whole_lines, path, kMaxLineBytes, [&](const std::string& where, std::string_view text_line) {
    const Json json = parse_json(text_line, where);
    const JsonObject line(json, cat("[record] ", where));
    Metrics values;
    for (const auto& [name, value] : json.items()) {
      if (name != kStepKey) values.emplace_back(name, number_of(line, name, value));
    }
    take(line.integer(kStepKey), values);
  });
}

}  // namespace norma
