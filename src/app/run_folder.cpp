#include "run_folder.h"

#include <chrono>

#include <ATen/Parallel.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/config/names.h"

#include "run_tokenizer.h"
#include "version.h"

namespace norma {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1 << 20;
constexpr const char* kMarkName = "logs/started";

}  // namespace

fs::path run_folder_of(const RunConfig& config) {
  return config.run.folder.empty() ? fs::path("runs") / config.run.name : fs::path(config.run.folder);
}

RunFolder::RunFolder(const fs::path& path) : path_(path) {
  std::error_code error;
  fs::create_directories(path_ / "logs", error);
  if (error) throw DiskError(cat("[run.folder] cannot make ", path_.string(), ": ", error.message()));
  lock_ = FileLock::take(path_ / "logs" / "lock");
  if (!lock_) {
    throw ConfigError(cat("[run.folder] another process is training in ", path_.string(),
                          "; give this run its own run.name or run.folder"));
  }
}

std::string RunFolder::mark() const {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const std::string text = cat(now, "-", getpid());
  write_file_atomic(path_ / kMarkName, text);
  return text;
}

bool RunFolder::has_mark(const fs::path& path, const std::string& mark) {
  std::error_code error;
  return fs::is_regular_file(path / kMarkName, error) && read_file(path / kMarkName, kMaxConfigBytes) == mark;
}

void RunFolder::write_description(const CheckedConfig& checked, const RunPlan& plan,
                                  const std::vector<std::string>& arguments, const std::string& device) {
  if (!checked.source.file.empty()) {
    write_file_atomic(path_ / "config.yaml", read_file(checked.source.file, kMaxConfigBytes));
  }
  write_file_atomic(path_ / "config.resolved.yaml", to_yaml(checked.config));
  write_file_atomic(path_ / "plan.txt", describe(plan));
  Json env;
  env["version"] = version_text();
  env["commit"] = commit_hash();
  env["libtorch"] = libtorch_version();
  env["command"] = arguments;
  env["working_folder"] = fs::current_path().string();
  if (const auto origin = token_origin(checked.config.data.paths, fs::current_path())) {
    env["tokenizer_checksum"] = origin->checksum;
  }
  env["device"] = device;
  env["threads"] = at::get_num_threads();
  env["cpu_capability"] = at::get_cpu_capability();
  write_file_atomic(path_ / kEnvironmentName, to_text(env, 2) + "\n");
}

void RunFolder::write_summary(const RunPlan& plan, const RunSummary& summary, std::int64_t peak_memory) {
  Json json;
  json["name"] = plan.config.run.name;
  json["preset"] = plan.config.norm.preset;
  json["parameters"] = plan.cost.parameters;
  json["outcome"] = summary.outcome == Outcome::finished ? "finished" : "stopped";
  json["step"] = summary.state.step;
  json["max_steps"] = plan.max_steps;
  json["tokens"] = summary.state.position.tokens;
  json["final_loss"] = summary.state.final_loss;
  json["best_loss"] = summary.state.best_loss;
  Json validation = Json::object();
  for (const auto& [label, loss] : summary.state.validation) validation[label] = loss;
  json["validation"] = validation;
  json["seconds"] = summary.seconds;
  json["tokens_per_second"] = summary.tokens_per_second;
  json["flops_per_token_causal"] = plan.cost.flops_causal;
  json["flops_per_token_full"] = plan.cost.flops_full;
  json["peak_memory_bytes"] = peak_memory;
  write_file_atomic(path_ / "summary.json", json.dump(2) + "\n");
}

}  // namespace norma
