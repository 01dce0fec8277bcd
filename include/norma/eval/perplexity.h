// Validation perplexity on token files, as OLMo's in-loop evaluator: of each instance the mean cross-entropy of its
// T - 1 targets, of a set the mean over instances.
#pragma once

#include <cstdint>
#include <functional>

#include "norma/base/peers.h"
#include "norma/data/token_file.h"
#include "norma/model/transformer.h"

namespace norma {

struct PerplexityOptions {
  std::int64_t batch_size = 8;
  std::int64_t max_instances = 0;  // 0: all
  std::int64_t loss_chunk = 1024;
  at::Device device = at::kCPU;
  // After each batch (may be empty), on every rank; false on any of them ends the evaluation early on all.
  std::function<bool(std::int64_t done, std::int64_t total)> progress;
};

struct Perplexity {
  double cross_entropy = 0.0;  // nats per token
  std::int64_t instances = 0;  // seen
  bool complete = false;       // not ended early
  double perplexity() const;
};

// The ranks share the instances; every one gets the result.
Perplexity evaluate_perplexity(Transformer& model, UnitRunner& runner, const TokenDataset& dataset, Peers& peers,
                               const PerplexityOptions& options);

}  // namespace norma
