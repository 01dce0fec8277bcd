#include "norma/train/metrics.h"

#include <cmath>

#include "norma/base/json.h"
#include "norma/base/text.h"

namespace norma {
namespace {

constexpr std::uint64_t kMaxMetricsBytes = std::uint64_t{4} << 30;

Json number(double value) {
  if (std::isfinite(value)) return value;
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

// Keeps the whole lines of steps up to `resume_step`. A line cut off by a crash goes too.
void drop_later_steps(const fs::path& path, std::int64_t resume_step) {
  if (!fs::exists(path)) return;
  const std::string text = read_file(path, kMaxMetricsBytes);
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, /*allow_exceptions=*/false);
    const bool valid = line.is_object() && line.contains("step") && line["step"].is_number_integer();
    if (valid && line["step"].get<std::int64_t>() <= resume_step) kept.append(text, begin, end + 1 - begin);
    begin = end + 1;
  }
  if (kept.size() != text.size()) write_file_atomic(path, kept);
}

}  // namespace

MetricsWriter::MetricsWriter(const fs::path& folder, MetricsOptions options) {
  const fs::path path = folder / "metrics.jsonl";
  drop_later_steps(path, options.resume_step);
  lines_ = std::make_unique<OutputFile>(path, OutputFile::Mode::append);
  if (options.tensorboard) events_ = std::make_unique<TensorboardWriter>(folder, options.resume_step);
}

MetricsWriter::~MetricsWriter() = default;

void MetricsWriter::write(std::int64_t step, const Metrics& metrics) {
  Json line;
  line["step"] = step;
  for (const auto& [name, value] : metrics) line[name] = number(value);
  lines_->write(line.dump() + "\n");
  if (events_) events_->write(step, metrics);
}

}  // namespace norma
