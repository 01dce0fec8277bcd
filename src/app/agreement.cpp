#include "agreement.h"

#include "norma/base/error.h"
#include "norma/config/keys.h"
#include "norma/config/schema.h"

namespace norma {
namespace {

// Of one machine, not of the run.
bool is_local(const std::string& key) {
  return is_inside(key, "data.paths") || is_inside(key, "data.tokenizer") || is_inside(key, "eval.sets") ||
         is_inside(key, "eval.task_data") || is_inside(key, "run.threads");
}

}  // namespace

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
        "than on rank 0 "
        "(sizes or checksums differ)");
  }
}

}  // namespace norma
