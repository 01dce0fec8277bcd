#include "norma/parallel/launch.h"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "norma/base/error.h"
#include "norma/base/json.h"

namespace norma {
namespace {

constexpr int kMaxWorld = 1 << 20;
constexpr int kMaxPort = 65535;

// Reads the variables of one launcher, each with its allowed range.
class Variables {
 public:
  Variables(const EnvironmentLookup& lookup, std::string launcher) : lookup_(lookup), launcher_(std::move(launcher)) {}

  std::string text(const std::string& name) const {
    const auto value = lookup_(name);
    if (value && !value->empty()) return *value;
    throw ConfigError(cat("[launch] ", launcher_, " must set ", name, "; it is missing"));
  }

  int number(const std::string& name, int least, int most) const {
    const std::string value = text(name);
    int parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error == std::errc() && end == value.data() + value.size() && parsed >= least && parsed <= most) return parsed;
    throw ConfigError(
        cat("[launch] ", name, " must be a whole number from ", least, " to ", most, "; got '", value, "'"));
  }

  int number_or(const std::string& name, int least, int most, int otherwise) const {
    const auto value = lookup_(name);
    return value && !value->empty() ? number(name, least, most) : otherwise;
  }

  std::string text_or(const std::string& name, const std::string& otherwise) const {
    const auto value = lookup_(name);
    return value && !value->empty() ? *value : otherwise;
  }

 private:
  const EnvironmentLookup& lookup_;
  std::string launcher_;
};

LaunchEnvironment read_torchrun(const EnvironmentLookup& lookup) {
  const Variables v(lookup, "torchrun");
  LaunchEnvironment e;
  e.launcher = Launcher::torchrun;
  e.world_size = v.number("WORLD_SIZE", 1, kMaxWorld);
  e.rank = v.number("RANK", 0, e.world_size - 1);
  e.local_world_size = v.number_or("LOCAL_WORLD_SIZE", 1, e.world_size, e.world_size);
  e.local_rank = v.number_or("LOCAL_RANK", 0, e.local_world_size - 1, e.rank % e.local_world_size);
  e.master_host = e.world_size > 1 ? v.text("MASTER_ADDR") : v.text_or("MASTER_ADDR", e.master_host);
  e.master_port =
      e.world_size > 1 ? v.number("MASTER_PORT", 1, kMaxPort) : v.number_or("MASTER_PORT", 1, kMaxPort, e.master_port);
  e.agent_store = v.text_or("TORCHELASTIC_USE_AGENT_STORE", "") == "True";
  e.restart_count = v.number_or("TORCHELASTIC_RESTART_COUNT", 0, kMaxWorld, 0);
  return e;
}

// A port that all processes of the job compute alike, away from those in common use.
int slurm_port(const Variables& v) {
  return v.number_or("MASTER_PORT", 1, kMaxPort, 20000 + v.number_or("SLURM_JOB_ID", 0, 2147483647, 0) % 20000);
}

LaunchEnvironment read_slurm(const EnvironmentLookup& lookup) {
  const Variables v(lookup, "srun");
  LaunchEnvironment e;
  e.launcher = Launcher::slurm;
  e.world_size = v.number("SLURM_NTASKS", 1, kMaxWorld);
  e.rank = v.number("SLURM_PROCID", 0, e.world_size - 1);
  e.local_rank = v.number("SLURM_LOCALID", 0, e.world_size - 1);
  // "8" or "8(x2),4": usually all nodes but the last have the first number of processes.
  const std::string per_node = v.text_or("SLURM_STEP_TASKS_PER_NODE", v.text_or("SLURM_TASKS_PER_NODE", "1"));
  e.local_world_size = std::max(e.local_rank + 1, static_cast<int>(std::strtol(per_node.c_str(), nullptr, 10)));
  if (e.world_size > 1) {
    e.master_host = v.text_or("MASTER_ADDR", "");
    if (e.master_host.empty())
      e.master_host = first_slurm_host(v.text_or("SLURM_STEP_NODELIST", v.text_or("SLURM_JOB_NODELIST", "")));
    e.master_port = slurm_port(v);
  }
  return e;
}

LaunchEnvironment read_open_mpi(const EnvironmentLookup& lookup) {
  const Variables v(lookup, "mpirun");
  LaunchEnvironment e;
  e.launcher = Launcher::open_mpi;
  e.world_size = v.number("OMPI_COMM_WORLD_SIZE", 1, kMaxWorld);
  e.rank = v.number("OMPI_COMM_WORLD_RANK", 0, e.world_size - 1);
  e.local_world_size = v.number_or("OMPI_COMM_WORLD_LOCAL_SIZE", 1, e.world_size, e.world_size);
  e.local_rank = v.number_or("OMPI_COMM_WORLD_LOCAL_RANK", 0, e.local_world_size - 1, e.rank % e.local_world_size);
  const bool one_node = e.local_world_size == e.world_size;
  e.master_host = one_node ? v.text_or("MASTER_ADDR", e.master_host) : v.text("MASTER_ADDR");
  e.master_port = v.number_or("MASTER_PORT", 1, kMaxPort, e.master_port);
  return e;
}

}  // namespace

std::string first_slurm_host(const std::string& node_list) {
  const std::size_t bracket = node_list.find_first_of("[,");
  std::string host = node_list.substr(0, bracket);
  if (bracket != std::string::npos && node_list[bracket] == '[') {
    const std::size_t first_end = node_list.find_first_of("-,]", bracket + 1);
    const std::size_t close = node_list.find(']', bracket);
    if (first_end == std::string::npos || close == std::string::npos) host.clear();
    if (!host.empty()) {
      host += node_list.substr(bracket + 1, first_end - bracket - 1);
      const std::size_t rest_end = node_list.find(',', close);
      host += node_list.substr(close + 1, rest_end == std::string::npos ? rest_end : rest_end - close - 1);
    }
  }
  if (host.empty()) {
    throw ConfigError(
        cat("[launch] the first host of SLURM's node list '", node_list,
            "' is not clear: set MASTER_ADDR (scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -1)"));
  }
  return host;
}

LaunchEnvironment read_launch_environment(const EnvironmentLookup& lookup) {
  const auto has = [&](const char* name) { return !lookup(name).value_or("").empty(); };
  if (has("RANK") && has("WORLD_SIZE")) return read_torchrun(lookup);
  // A plain shell inside a SLURM allocation has no job step: that is one process.
  if (has("SLURM_PROCID") && has("SLURM_NTASKS") && has("SLURM_LOCALID")) return read_slurm(lookup);
  if (has("OMPI_COMM_WORLD_RANK")) return read_open_mpi(lookup);
  return {};
}

LaunchEnvironment read_launch_environment() {
  return read_launch_environment([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  });
}

void write_error_file(const std::string& text) {
  const char* const path = std::getenv("TORCHELASTIC_ERROR_FILE");
  if (path == nullptr) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  const Json json = {{"message", {{"message", text}, {"extraInfo", {{"timestamp", std::to_string(seconds)}}}}}};
  std::ofstream(path) << to_text(json) << "\n";
}

std::string launcher_name(Launcher launcher) {
  switch (launcher) {
    case Launcher::torchrun:
      return "torchrun";
    case Launcher::slurm:
      return "SLURM";
    case Launcher::open_mpi:
      return "Open MPI";
    case Launcher::none:
      break;
  }
  return "one process";
}

}  // namespace norma
