// The folder of a run: the names of its files, who may write into it, and what is known of a run before it trains.
//
//   config.yaml                 the config file as it was given
//   config.resolved.yaml        every key with its value
//   plan.txt                    the derived plan, for people
//   env.json                    version, machine and command line (Environment)
//   logs/rankN.log              one log per process
//   metrics.jsonl               one line per step and per evaluation (record/metrics.h)
//   events.out.tfevents.*       the same numbers for TensorBoard
//   step-N/, latest             checkpoints, and the name of the newest one (checkpoint/commit.h)
//   summary.json                how the run ended (record/summary.h)
//   length.json                 steps of a run whose length was given in minutes (MeasuredLength)
//   baseline.json               what counting reaches on its validation sets (record/summary.h)
//   samples.jsonl               texts that its model wrote (record/summary.h)
//   traces/rankN.json           profiler traces, where metrics.trace_steps asks for them
//
// Every name is spelled here alone. A file that a program reads has its writer and its reader in this room; what old
// programs wrote stays readable.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/file.h"
#include "norma/config/config.h"

namespace norma {

inline constexpr std::string_view kConfigFile = "config.yaml";
inline constexpr std::string_view kResolvedConfigFile = "config.resolved.yaml";
inline constexpr std::string_view kPlanFile = "plan.txt";
inline constexpr std::string_view kEnvironmentFile = "env.json";
inline constexpr std::string_view kMetricsFile = "metrics.jsonl";
inline constexpr std::string_view kSummaryFile = "summary.json";
inline constexpr std::string_view kLatestFile = "latest";
inline constexpr std::string_view kLengthFile = "length.json";
inline constexpr std::string_view kBaselineFile = "baseline.json";
inline constexpr std::string_view kSamplesFile = "samples.jsonl";
inline constexpr std::string_view kOldSampleFile = "sample.txt";  // of older scripts: one text, with its prompt

fs::path log_file(const fs::path& folder, int rank);
fs::path trace_file(const fs::path& folder, int rank);

// "step-120", and back: nullopt for any other name, "step-007" included.
std::string checkpoint_name(std::int64_t step);
std::optional<std::int64_t> step_of_checkpoint(std::string_view name);

// Whether a run was described in this folder.
bool is_run_folder(const fs::path& folder);

// run.folder, or runs/<run.name>.
fs::path run_folder_of(const RunConfig& config);

// Where and by which program a run was started. Environment variables are left out: they may hold secrets.
struct Environment {
  std::string version, commit, libtorch;
  std::vector<std::string> command;
  std::optional<std::string> working_folder;      // relative paths of the config start here
  std::optional<std::string> tokenizer_checksum;  // of the tokenizer that made the training tokens, where known
  std::string device;
  std::int64_t threads = 0;
  std::string cpu_capability;

  template <class V>
  void visit(V&& v) {
    v("version", version);
    v("commit", commit);
    v("libtorch", libtorch);
    v("command", command);
    v("working_folder", working_folder);
    v("tokenizer_checksum", tokenizer_checksum);
    v("device", device);
    v("threads", threads);
    v("cpu_capability", cpu_capability);
  }
};

// What is known of a run when it starts to train.
struct RunDescription {
  fs::path config_file;  // copied as it is; empty when the config came from no file
  RunConfig config;      // resolved
  std::string plan;
  Environment environment;
};

// Throws DiskError.
void write_description(const fs::path& folder, const RunDescription& description);

// Both throw DataError naming the file.
RunConfig read_resolved_config(const fs::path& folder);
Environment read_environment(const fs::path& folder);

// How many steps a length in minutes means: measured at the run's first start and kept, so that a run that is stopped
// and resumed keeps its schedule.
struct MeasuredLength {
  std::string asked;  // train.max_duration as it was given: "30min"
  std::int64_t steps = 0;
  double seconds_per_step = 0.0;

  template <class V>
  void visit(V&& v) {
    v("asked", asked);
    v("steps", steps);
    v("seconds_per_step", seconds_per_step);
  }
};

void write_length(const fs::path& folder, const MeasuredLength& length);  // throws DiskError
std::optional<MeasuredLength> read_length(const fs::path& folder);        // throws DataError naming the file

// Holds the folder's lock for its lifetime, so that two processes never train into the same folder.
class RunFolder {
 public:
  // Makes the folder. Throws ConfigError when another process trains there, DiskError when it cannot be made.
  explicit RunFolder(fs::path path);

  const fs::path& path() const { return path_; }
  // Leaves a text in the folder that no other start leaves, and returns it.
  std::string mark() const;

 private:
  fs::path path_;
  std::optional<FileLock> lock_;
};

// Whether the folder at `path` holds this mark: then it is the folder that RunFolder::mark() wrote into, seen from
// another host.
bool has_mark(const fs::path& path, const std::string& mark);

}  // namespace norma
