#include "norma/data/batch_stream.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "norma/base/error.h"

#include "order.h"

namespace norma {

Json to_json(const Position& position) {
  Json json;
  json["epoch"] = position.epoch;
  json["instances"] = position.instances;
  json["tokens"] = position.tokens;
  return json;
}

Position parse_position(const Json& json, const std::string& where) {
  constexpr IntegerRange kCounts{0, std::int64_t{1} << 60};  // leaves room to count on
  const JsonObject position(json, cat("[data] ", where));
  return {position.integer("epoch", kCounts), position.integer("instances", kCounts),
          position.integer("tokens", kCounts)};
}

BatchStream::BatchStream(std::shared_ptr<const TokenDataset> dataset, BatchStreamOptions options)
    : dataset_(std::move(dataset)), options_(options) {
  const std::int64_t batch = options_.global_batch_size;
  NORMA_CHECK(options_.rank >= 0 && options_.rank < options_.world_size, "[data] rank ", options_.rank, " of ",
              options_.world_size);
  NORMA_CHECK(batch > 0 && options_.prefetch > 0, "[data] batch size and prefetch must be positive");
  if (batch < options_.world_size) {
    throw ConfigError(cat("[data] train.global_batch_size must be at least the number of processes, ",
                          options_.world_size, "; got ", batch));
  }
  if (batch > dataset_->num_instances()) {
    throw DataError(cat("[data] an epoch must hold at least one global batch; got ", dataset_->num_instances(),
                        " instances of ", dataset_->sequence_length(), " tokens for train.global_batch_size ", batch,
                        ": list more data, or lower the batch size or model.sequence_length"));
  }
  if (dataset_->num_instances() > std::numeric_limits<std::uint32_t>::max()) {
    throw DataError(cat("[data] a dataset may hold at most 2^32 - 1 instances (the order is stored in 32 bits, as ",
                        "OLMo's); got ", dataset_->num_instances()));
  }
}

BatchStream::~BatchStream() {
  stop();
}

std::int64_t BatchStream::batches_per_epoch() const {
  return dataset_->num_instances() / options_.global_batch_size;
}

void BatchStream::seek(const Position& position) {
  if (position.epoch < 0 || position.tokens < 0 || position.instances < 0 ||
      position.instances > dataset_->num_instances()) {
    throw DataError(cat("[data] a position must lie inside of the dataset; got instance ", position.instances, " of ",
                        dataset_->num_instances(), " in epoch ", position.epoch,
                        ": the data is not what the run began with"));
  }
  stop();
  ready_.clear();
  failure_ = nullptr;
  position_ = position;
}

TokenBatch BatchStream::next() {
  std::unique_lock lock(mutex_);
  if (!thread_.joinable()) {
    stopping_ = false;
    thread_ = std::thread([this] { read_ahead(); });
  }
  changed_.wait(lock, [&] { return !ready_.empty() || failure_; });
  if (ready_.empty()) std::rethrow_exception(failure_);
  TokenBatch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

void BatchStream::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void BatchStream::read_ahead() {
  try {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || static_cast<std::int64_t>(ready_.size()) < options_.prefetch; });
        if (stopping_) return;
      }
      TokenBatch batch = read_batch();
      const std::lock_guard lock(mutex_);
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_all();
  }
}

void BatchStream::prepare_order(std::int64_t epoch) {
  if (!options_.shuffle || order_epoch_ == epoch) return;
  order_ = shuffled_indices(static_cast<std::uint32_t>(dataset_->num_instances()),
                            options_.seed + static_cast<std::uint64_t>(epoch));
  order_epoch_ = epoch;
}

std::int64_t BatchStream::instance_at(std::int64_t index) const {
  return options_.shuffle ? order_[static_cast<std::size_t>(index)] : index;
}

TokenBatch BatchStream::read_batch() {
  const std::int64_t global = options_.global_batch_size;
  const std::int64_t length = dataset_->sequence_length();
  const std::int64_t instances = dataset_->num_instances();
  // The rest of an epoch can be too short for a batch, although no batch ended there, when the batch size was changed.
  if (position_.instances + global > instances) position_ = {position_.epoch + 1, 0, position_.tokens};
  prepare_order(position_.epoch);

  TokenBatch batch;
  batch.epoch = position_.epoch;
  batch.sequence_length = length;
  batch.size = (global - options_.rank + options_.world_size - 1) / options_.world_size;
  batch.ids.resize(static_cast<std::size_t>(batch.size * length));  // [size, length]
  std::span<std::int64_t> rest(batch.ids);
  for (std::int64_t i = options_.rank; i < global; i += options_.world_size) {
    batch.instances.push_back(instance_at(position_.instances + i));
    dataset_->read(batch.instances.back(), rest.first(static_cast<std::size_t>(length)));
    rest = rest.subspan(static_cast<std::size_t>(length));
  }
  position_.instances += global;
  position_.tokens += global * length;
  // Each position has one name: the end of an epoch is written as the start of the next.
  if (position_.instances + global > instances) position_ = {position_.epoch + 1, 0, position_.tokens};
  batch.next = position_;
  return batch;
}

}  // namespace norma
