// Who this process is among its peers, as the launcher says it in the environment.
//
// Looked at in this order: torchrun (RANK, WORLD_SIZE, ...), SLURM (SLURM_PROCID, ...), Open MPI
// (OMPI_COMM_WORLD_RANK, ...), else one process.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace norma {

enum class Launcher { none, torchrun, slurm, open_mpi };

struct LaunchEnvironment {
  Launcher launcher = Launcher::none;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;        // among the processes of this node: picks the GPU
  int local_world_size = 1;  // processes of this node
  std::string master_host = "127.0.0.1";
  int master_port = 29500;
  bool agent_store = false;  // torchrun's agent serves the store already: rank 0 must not
  int restart_count = 0;     // torchrun restarts every worker when one fails
};

// The value of an environment variable, or nullopt.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;

// Throws ConfigError naming the variable that is missing or no number in its range.
LaunchEnvironment read_launch_environment(const EnvironmentLookup& lookup);

// Of this process.
LaunchEnvironment read_launch_environment();

// First host of a SLURM node list: "node[07-09,12],other" -> "node07". Throws ConfigError when it names none.
std::string first_slurm_host(const std::string& node_list);

// Tells torchrun why this process fails; nothing where no error file is asked for (TORCHELASTIC_ERROR_FILE).
void write_error_file(const std::string& text);

std::string launcher_name(Launcher launcher);  // "torchrun"

}  // namespace norma
