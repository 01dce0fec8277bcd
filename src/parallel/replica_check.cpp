#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/parallel/shard_engine.h"

namespace norma {

void check_replicas(const ShardEngine& engine, Peers& peers, std::int64_t step) {
  RunningChecksum hash;
  for (const ShardPiece& piece : engine.pieces()) {
    hash.update(bytes_of(values_of(piece, engine.flat_units()[piece.unit].master).to(at::kCPU)));
  }
  const std::vector<std::string> hashes = peers.gather(hash.digest());
  const auto degree = static_cast<std::size_t>(engine.mesh().shard_degree);
  for (std::size_t rank = degree; rank < hashes.size(); ++rank) {
    const std::size_t first = rank % degree;
    if (hashes[rank] == hashes[first]) continue;
    throw DivergedError(cat("[parallel] step ", step, ": rank ", rank, " holds other weights than rank ", first,
                            ", although both are replicas of one shard. One of the two devices may be faulty: check "
                            "them, and resume from a checkpoint"));
  }
}

}  // namespace norma
