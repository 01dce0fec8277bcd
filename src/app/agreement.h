// Processes of one run that were started differently train nonsense: found out before the first step.
#pragma once

#include <string>

#include "norma/base/peers.h"
#include "norma/config/config.h"

namespace norma {

// Compares this process' config and data with rank 0's. Throws ConfigError naming the keys, or DataError. Names of
// files may differ (a node's own disk), what is in them may not.
void check_agreement(const RunConfig& config, const std::string& data_fingerprint, Peers& peers);

}  // namespace norma
