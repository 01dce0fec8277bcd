// A TensorBoard event file: TFRecord frames (length, masked CRC-32C, data, masked CRC-32C) around hand-encoded Event
// protobufs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "norma/base/file.h"

namespace norma {

// A new file per process; TensorBoard merges them, and a purge record drops the steps after `resume_step`.
class TensorboardWriter {
 public:
  TensorboardWriter(const fs::path& folder, std::int64_t resume_step);
  void write(std::int64_t step, const std::vector<std::pair<std::string, double>>& metrics);

 private:
  void write_record(const std::string& event);

  OutputFile file_;
};

}  // namespace norma
