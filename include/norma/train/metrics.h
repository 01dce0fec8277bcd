// What a run writes down about its steps: metrics.jsonl and TensorBoard events, under OLMo's metric names.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "norma/base/file.h"

namespace norma {

using Metrics = std::vector<std::pair<std::string, double>>;  // in the order they are written

class TensorboardWriter;

struct MetricsOptions {
  std::int64_t resume_step = 0;  // lines of later steps are dropped: a resumed file equals that of a straight run
  bool tensorboard = true;
};

// Appends to <folder>/metrics.jsonl, one JSON object a line, "step" first; a number that is not finite is a string
// ("nan", "inf", "-inf"). Each line is handed to the system at once. DiskError when a write fails.
class MetricsWriter {
 public:
  MetricsWriter(const fs::path& folder, MetricsOptions options);
  ~MetricsWriter();
  void write(std::int64_t step, const Metrics& metrics);

 private:
  std::unique_ptr<OutputFile> lines_;
  std::unique_ptr<TensorboardWriter> events_;
};

// A TensorBoard event file: TFRecord frames (length, masked CRC32C, data, masked CRC32C) around hand-encoded Event
// protobufs. A new file per process; TensorBoard merges them, and a purge record drops steps after `resume_step`.
class TensorboardWriter {
 public:
  TensorboardWriter(const fs::path& folder, std::int64_t resume_step);
  void write(std::int64_t step, const Metrics& metrics);

 private:
  void write_record(const std::string& event);

  OutputFile file_;
};

// CRC-32C (Castagnoli), as TFRecord uses it; checksum of "123456789" is 0xE3069283.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace norma
