#include "norma/record/run_folder.h"

#include <chrono>

#include <unistd.h>

#include "norma/base/error.h"
#include "norma/config/yaml.h"

#include "json_fields.h"

namespace norma {
namespace {

constexpr std::string_view kLogFolder = "logs";
constexpr std::string_view kTraceFolder = "traces";
constexpr std::string_view kLockFile = "logs/lock";
constexpr std::string_view kMarkFile = "logs/started";
constexpr std::string_view kCheckpointPrefix = "step-";

}  // namespace

fs::path log_file(const fs::path& folder, int rank) {
  return folder / kLogFolder / cat("rank", rank, ".log");
}

fs::path trace_file(const fs::path& folder, int rank) {
  return folder / kTraceFolder / cat("rank", rank, ".json");
}

std::string checkpoint_name(std::int64_t step) {
  return cat(kCheckpointPrefix, step);
}

std::optional<std::int64_t> step_of_checkpoint(std::string_view name) {
  if (!name.starts_with(kCheckpointPrefix)) return std::nullopt;
  const std::string digits(name.substr(kCheckpointPrefix.size()));
  if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  const std::int64_t step = std::stoll(digits);
  return checkpoint_name(step) == name ? std::optional(step) : std::nullopt;
}

bool is_run_folder(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / kResolvedConfigFile, error);
}

fs::path run_folder_of(const RunConfig& config) {
  return config.run.folder.empty() ? fs::path("runs") / config.run.name : fs::path(config.run.folder);
}

void write_description(const fs::path& folder, const RunDescription& description) {
  if (!description.config_file.empty()) {
    write_file_atomic(folder / kConfigFile, read_file(description.config_file, kMaxRecordBytes));
  }
  write_file_atomic(folder / kResolvedConfigFile, to_yaml(description.config));
  write_file_atomic(folder / kPlanFile, description.plan);
  write_json(folder / kEnvironmentFile, json_of(description.environment));
}

RunConfig read_resolved_config(const fs::path& folder) {
  const fs::path path = folder / kResolvedConfigFile;
  const LoadedConfig loaded = parse_config(read_file(path, kMaxRecordBytes), path.string());
  if (!loaded.problems.empty()) throw DataError("[record] " + join(describe(loaded.problems, loaded.source), "; "));
  return loaded.config;
}

Environment read_environment(const fs::path& folder) {
  return read_record<Environment>(folder / kEnvironmentFile);
}

void write_length(const fs::path& folder, const MeasuredLength& length) {
  write_json(folder / kLengthFile, json_of(length));
}

std::optional<MeasuredLength> read_length(const fs::path& folder) {
  if (!fs::exists(folder / kLengthFile)) return std::nullopt;
  return read_record<MeasuredLength>(folder / kLengthFile);
}

RunFolder::RunFolder(fs::path path) : path_(std::move(path)) {
  std::error_code error;
  fs::create_directories(path_ / kLogFolder, error);
  if (error) throw DiskError(cat("[run.folder] cannot make ", path_.string(), ": ", error.message()));
  lock_ = FileLock::take(path_ / kLockFile);
  if (!lock_) {
    throw ConfigError(cat("[run.folder] another process is training in ", path_.string(),
                          "; give this run its own run.name or run.folder"));
  }
}

std::string RunFolder::mark() const {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const std::string text = cat(now, "-", getpid());
  write_file_atomic(path_ / kMarkFile, text);
  return text;
}

bool has_mark(const fs::path& path, const std::string& mark) {
  std::error_code error;
  return fs::is_regular_file(path / kMarkFile, error) && read_file(path / kMarkFile, kMaxRecordBytes) == mark;
}

}  // namespace norma
