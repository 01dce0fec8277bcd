#include "norma/data/ngram.h"

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "norma/base/error.h"

namespace norma {

namespace {

// Counts of pairs by open addressing. A key is first * vocab_size + second + 1, so that 0 marks a free slot.
class PairCounts {
 public:
  PairCounts() : slots_(std::size_t{1} << 16) {}

  void add(std::uint64_t key) {
    Slot& slot = slots_[find(slots_, key + 1)];
    if (slot.key == 0) {
      slot.key = key + 1;
      ++used_;
    }
    ++slot.count;
    if (used_ * 10 > slots_.size() * 6) grow();
  }

  std::int64_t count(std::uint64_t key) const { return slots_[find(slots_, key + 1)].count; }

 private:
  struct Slot {
    std::uint64_t key = 0;
    std::int64_t count = 0;
  };

  // The slot of the key, or the free one where it belongs.
  static std::size_t find(const std::vector<Slot>& slots, std::uint64_t key) {
    const std::size_t mask = slots.size() - 1;
    std::uint64_t hash = key * 0x9e3779b97f4a7c15ULL;  // 2^64 over the golden ratio: spreads neighbouring keys
    hash ^= hash >> 32;
    std::size_t slot = static_cast<std::size_t>(hash) & mask;
    while (slots[slot].key != 0 && slots[slot].key != key) slot = (slot + 1) & mask;
    return slot;
  }

  void grow() {
    std::vector<Slot> larger(slots_.size() * 2);
    for (const Slot& slot : slots_) {
      if (slot.key != 0) larger[find(larger, slot.key)] = slot;
    }
    slots_.swap(larger);
  }

  std::vector<Slot> slots_;  // a power of two, at most 60 % used
  std::size_t used_ = 0;
};

struct Counts {
  std::vector<std::int64_t> tokens;  // [V]
  std::vector<std::int64_t> starts;  // [V], pairs that start with the id
  PairCounts pairs;
  std::int64_t num_tokens = 0;
};

void check_ids(std::span<const std::int64_t> ids, std::int64_t vocab_size) {
  for (const std::int64_t id : ids) {
    if (id >= vocab_size)
      throw DataError(cat("[ngram] every id must be below ", vocab_size, "; got ", id, ": set model.vocab_size"));
  }
}

Counts count(const TokenDataset& train, std::int64_t vocab_size) {
  Counts counts;
  counts.tokens.resize(static_cast<std::size_t>(vocab_size));
  counts.starts.resize(static_cast<std::size_t>(vocab_size));
  std::vector<std::int64_t> ids(static_cast<std::size_t>(train.sequence_length()));
  for (std::int64_t instance = 0; instance < train.num_instances(); ++instance) {
    train.read(instance, ids);
    check_ids(ids, vocab_size);
    for (const std::int64_t id : ids) ++counts.tokens[static_cast<std::size_t>(id)];
    for (std::size_t i = 1; i < ids.size(); ++i) {
      ++counts.starts[static_cast<std::size_t>(ids[i - 1])];
      counts.pairs.add(static_cast<std::uint64_t>(ids[i - 1] * vocab_size + ids[i]));
    }
    counts.num_tokens += train.sequence_length();
  }
  return counts;
}

}  // namespace

NgramBaseline ngram_baseline(const TokenDataset& train, const TokenDataset& validation, std::int64_t vocab_size) {
  NORMA_CHECK(vocab_size > 0 && vocab_size <= (std::int64_t{1} << 31), "[ngram] vocabulary of ", vocab_size);
  if (validation.sequence_length() < 2) throw DataError("[ngram] an instance must have at least two tokens");
  const Counts counts = count(train, vocab_size);
  NgramBaseline baseline;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(validation.sequence_length()));
  for (std::int64_t instance = 0; instance < validation.num_instances(); ++instance) {
    validation.read(instance, ids);
    check_ids(ids, vocab_size);
    for (std::size_t i = 1; i < ids.size(); ++i) {
      const std::int64_t pair = counts.pairs.count(static_cast<std::uint64_t>(ids[i - 1] * vocab_size + ids[i]));
      const std::int64_t starts = counts.starts[static_cast<std::size_t>(ids[i - 1])];
      const std::int64_t alone = counts.tokens[static_cast<std::size_t>(ids[i])];
      baseline.unigram_nats -=
          std::log(static_cast<double>(alone + 1)) - std::log(static_cast<double>(counts.num_tokens + vocab_size));
      baseline.bigram_nats -=
          std::log(static_cast<double>(pair + 1)) - std::log(static_cast<double>(starts + vocab_size));
    }
    baseline.tokens += validation.sequence_length() - 1;
  }
  baseline.unigram_nats /= static_cast<double>(baseline.tokens);
  baseline.bigram_nats /= static_cast<double>(baseline.tokens);
  return baseline;
}

}  // namespace norma
