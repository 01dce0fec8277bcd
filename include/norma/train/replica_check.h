// Replicas apply equal updates to equal weights. A difference comes from a faulty device or a bug, and spoils the run.
#pragma once

#include <cstdint>

#include "norma/base/peers.h"
#include "norma/parallel/shard_engine.h"

namespace norma {

// Compares the hash of every rank's master weights with that of its first replica. Throws DivergedError on every rank,
// naming two that differ.
void check_replicas(const ShardEngine& engine, Peers& peers, std::int64_t step);

}  // namespace norma
