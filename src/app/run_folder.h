// The folder of a run: what was asked, what was derived, where it ran, and what came out.
//
//   config.yaml                           as given
//   config.resolved.yaml                  every key with its value
//   plan.txt                              the derived plan
//   env.json                              version, device, threads, working folder, the tokenizer's checksum; no
//                                         environment variables
//   logs/rank0.log
//   metrics.jsonl, events.out.tfevents.*
//   step-N/, latest
//   summary.json
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/train/run_plan.h"
#include "norma/train/trainer.h"

#include "checked_config.h"

namespace norma {

inline constexpr const char* kEnvironmentName = "env.json";

fs::path run_folder_of(const RunConfig& config);

// Holds the folder's lock for its lifetime, so that two processes never train into the same folder.
class RunFolder {
 public:
  // Makes the folder; throws ConfigError when another process trains there, DiskError when it cannot be made.
  explicit RunFolder(const fs::path& path);

  const fs::path& path() const { return path_; }
  // Leaves a mark in the folder, for others to find there.
  std::string mark() const;
  static bool has_mark(const fs::path& path, const std::string& mark);
  void write_description(const CheckedConfig& checked, const RunPlan& plan, const std::vector<std::string>& arguments,
                         const std::string& device);
  void write_summary(const RunPlan& plan, const RunSummary& summary, std::int64_t peak_memory);  // in bytes

 private:
  fs::path path_;
  std::optional<FileLock> lock_;
};

}  // namespace norma
