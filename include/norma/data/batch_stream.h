// Batches of training instances with their position. The instances of a batch are a pure function of (seed, epoch,
// instances consumed), so that resuming is a seek of constant cost, and the order is that of the global stream of
// instances: it does not depend on micro-batches, world size or prefetching.
//
// Epoch e, counted from 0, is shuffled with PCG64(seed + e). A global batch is the next G instances of that order, and
// rank r of W takes those with the indices r, r + W, ... in the batch. Instances that do not fill a batch at the end of
// an epoch are dropped (OLMo's IterableDataset with drop_last).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "norma/base/json.h"
#include "norma/data/token_file.h"

namespace norma {

struct Position {
  std::int64_t epoch = 0;
  std::int64_t instances = 0;  // consumed within the epoch, over all ranks
  std::int64_t tokens = 0;     // seen so far, over all ranks and epochs
  bool operator==(const Position&) const = default;
};

Json to_json(const Position& position);
// Throws DataError with `where` when a field is missing, negative or beyond 2^60.
Position parse_position(const Json& json, const std::string& where);

// One rank's part of a global batch.
struct TokenBatch {
  std::vector<std::int64_t> ids;        // [size, sequence_length], row-major
  std::vector<std::int64_t> instances;  // [size], their indices in the dataset
  std::int64_t size = 0;
  std::int64_t sequence_length = 0;
  std::int64_t epoch = 0;  // the one this batch belongs to
  Position next;           // where the stream goes on after this batch
};

struct BatchStreamOptions {
  std::uint64_t seed = 0;
  bool shuffle = true;  // false keeps the dataset's order in every epoch
  std::int64_t global_batch_size = 1;
  std::int64_t rank = 0;
  std::int64_t world_size = 1;
  std::int64_t prefetch = 4;  // batches read ahead, at least 1
};

// An endless stream of batches, read ahead by one background thread that starts with the first next(). It may be used
// by one thread only.
class BatchStream {
 public:
  // Throws DataError when one global batch needs more instances than there are, ConfigError when it has fewer
  // instances than there are ranks.
  BatchStream(std::shared_ptr<const TokenDataset> dataset, BatchStreamOptions options);
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  // The next batch. Rethrows what the background thread threw (DataError of a bad id, ...) once the batches
  // read before it are consumed.
  TokenBatch next();

  // Goes on from `position`, which may come from a run with another batch size or world size. This costs the shuffle of
  // one epoch at most. Throws DataError when the position lies outside of the dataset.
  void seek(const Position& position);

  std::int64_t batches_per_epoch() const;

 private:
  TokenBatch read_batch();                             // at position_, which it advances
  std::int64_t instance_at(std::int64_t index) const;  // in the order of the epoch
  void prepare_order(std::int64_t epoch);
  void read_ahead();
  void stop();

  std::shared_ptr<const TokenDataset> dataset_;
  BatchStreamOptions options_;

  // Owned by the background thread while it runs.
  Position position_;
  std::vector<std::uint32_t> order_;
  std::int64_t order_epoch_ = -1;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TokenBatch> ready_;  // guarded by mutex_
  std::exception_ptr failure_;    // guarded by mutex_
  bool stopping_ = false;         // guarded by mutex_
  std::thread thread_;
};

}  // namespace norma
