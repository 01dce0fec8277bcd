// Which of the job's processes this one is, as its launcher says in the environment.
//
// The variables of torchrun (RANK, WORLD_SIZE, ...) come first, then those of SLURM (SLURM_PROCID, ...) and of Open MPI
// (OMPI_COMM_WORLD_RANK, ...); without any of them the job is one process.
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
  int local_rank = 0;        // rank among the processes of this node: chooses the GPU
  int local_world_size = 1;  // number of processes on this node
  std::string master_host = "127.0.0.1";
  int master_port = 29500;
  bool agent_store = false;  // torchrun's agent serves the store already, so rank 0 must not
  int restart_count = 0;     // how often torchrun has restarted the job after a failure
};

// The value of an environment variable, or nullopt.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;

// Throws ConfigError naming the variable that is missing or is not a number in its range.
LaunchEnvironment read_launch_environment(const EnvironmentLookup& lookup);
LaunchEnvironment read_launch_environment();  // from this process's environment

// The first host of a SLURM node list: "node[07-09,12],other" -> "node07". Throws ConfigError when it names none.
std::string first_slurm_host(const std::string& node_list);

// Tells torchrun why this process fails; does nothing unless TORCHELASTIC_ERROR_FILE names a file for it.
void write_error_file(const std::string& text);

std::string launcher_name(Launcher launcher);  // "torchrun"

}  // namespace norma
