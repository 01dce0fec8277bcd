#include "norma/parallel/job.h"

#include <cstdio>
#include <filesystem>
#include <new>

#include <c10/util/Exception.h>
#include <unistd.h>

#include "norma/base/log.h"
#include "norma/config/yaml.h"
#include "norma/parallel/sharding.h"

namespace norma {
namespace {

// Whether a key describes one machine rather than the run.
bool is_local(const std::string& key) {
  return is_inside(key, "data.paths") || is_inside(key, "data.tokenizer") || is_inside(key, "eval.sets") ||
         is_inside(key, "eval.task_data") || is_inside(key, "run.threads");
}

constexpr const char* kPleaseReport = "\nThis is a bug in norma: please report it.";

// "what(): message" of LibTorch carries a C++ backtrace; people get the first line.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

Failure out_of_memory(const std::string& detail) {
  return {ExitCode::memory, "[memory] " + detail + "; try a smaller train.micro_batch_size or train.loss_chunk"};
}

// What LibTorch throws means that memory is short, on either kind of device, or that we have a bug.
Failure of_torch(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  if (text.find("can't allocate memory") != std::string::npos) return out_of_memory(first_line(text));
  return {ExitCode::internal, "[internal] " + text + kPleaseReport};
}

}  // namespace

std::unique_ptr<World> make_world(const ParallelConfig& config, const LaunchEnvironment& launch, at::Device device) {
  const Degrees degrees = mesh_degrees(config, launch);
  const TimeoutConfig& timeouts = config.timeouts;
  return std::make_unique<World>(WorldOptions{.launch = launch,
                                              .device = device,
                                              .shard_degree = degrees.shard,
                                              .replicate_degree = degrees.replicate,
                                              .start_timeout = Seconds(timeouts.start),
                                              .timeout = Seconds(timeouts.training),
                                              .grace = Seconds(timeouts.grace)});
}

void check_agreement(const RunConfig& config, const std::string& data_fingerprint, Peers& peers) {
  if (peers.size() == 1) return;
  const RunConfig first = parse_config(peers.broadcast(to_yaml(config)), "rank 0's config").config;
  std::vector<std::string> lines;
  for (const KeyDifference& difference : differing_keys(first, config)) {
    if (!is_local(difference.key))
      lines.push_back(cat(difference.key, ": ", difference.before, ", here ", difference.now));
  }
  if (!lines.empty()) {
    throw ConfigError("[config] every rank must be started with the same config; rank 0 has\n  " + join(lines, "\n  "));
  }
  if (peers.broadcast(data_fingerprint) != data_fingerprint) {
    throw DataError(
        "[data] every rank must read the same data, but data.paths, eval.sets or eval.tasks give other tokens here "
        "than "
        "on rank 0 (sizes or checksums differ)");
  }
}

Failure describe_failure(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(first_line(error.what()));
  } catch (const c10::Error& error) {
    return of_torch(error);
  } catch (const std::bad_alloc&) {
    return out_of_memory("out of memory");
  } catch (const std::filesystem::filesystem_error& error) {
    return {ExitCode::data, std::string("[file] ") + error.what()};
  } catch (const std::exception& error) {
    return {ExitCode::internal, std::string("[internal] ") + error.what() + kPleaseReport};
  } catch (...) {
    return {ExitCode::internal, std::string("[internal] an unknown failure") + kPleaseReport};
  }
}

void leave(World& world, const std::exception_ptr& exception) {
  const Failure failure = describe_failure(exception);
  const std::string text = world.report_failure(failure.text, failure.code == ExitCode::collective);
  if (!text.empty()) log_error(text);
  write_error_file(text.empty() ? failure.text : text);
  std::fflush(nullptr);
  _exit(static_cast<int>(failure.code));
}

}  // namespace norma
