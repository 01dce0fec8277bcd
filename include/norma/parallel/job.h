// The processes of a run as one job: how they meet, how they find out whether they were started alike, and how one of
// them ends that fails.
#pragma once

#include <exception>
#include <memory>
#include <string>

#include "norma/base/error.h"
#include "norma/base/peers.h"
#include "norma/config/config.h"
#include "norma/parallel/world.h"

namespace norma {

// Meets the other processes that the launcher started, if any. Throws ConfigError when strategy and number of processes
// do not fit, CollectiveError when not all come.
std::unique_ptr<World> make_world(const ParallelConfig& config, const LaunchEnvironment& launch, at::Device device);

// Processes that were started differently would train nonsense: compares this process' config and data with rank 0's.
// Throws ConfigError naming the keys, or DataError. Names of files may differ (a node's own disk), what is in them may
// not.
void check_agreement(const RunConfig& config, const std::string& data_fingerprint, Peers& peers);

// An exception as the program's user meets it.
struct Failure {
  ExitCode code = ExitCode::internal;
  std::string text;
};
Failure describe_failure(const std::exception_ptr& exception);

// Ends a process whose peers wait for it: says that it fails, and leaves without destructors, which would wait for
// peers or for a save that comes to nothing.
[[noreturn]] void leave(World& world, const std::exception_ptr& exception);

}  // namespace norma
