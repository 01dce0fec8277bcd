// The log-probabilities of given texts under a model, for downstream tasks and for documents, in the training loop and
// offline.
//
// Results do not depend on how requests are batched or shared among processes, beyond the rounding of matrix products
// of another shape. Method: OLMo, olmo/eval/downstream.py.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "norma/base/peers.h"
#include "norma/eval/requests.h"
#include "norma/model/transformer.h"

namespace norma {

struct ScoringOptions {
  std::int64_t batch_tokens = 16384;   // of a forward pass, padding included; a longer request runs alone
  std::int64_t context_length = 2048;  // the most tokens that the model reads of a request, see RequestWindow
  std::int64_t loss_chunk = 1024;      // rows of logits in memory at once
  bool reuse_context = false;          // neighbouring requests with the same context run it once
  at::Device device = at::kCPU;
  // Called after each forward pass on every rank, unless it is empty. False on any rank ends scoring early on all.
  std::function<bool(std::int64_t done, std::int64_t total)> progress;
};

struct LogProbabilities {
  std::vector<double> values;  // for each request: the sum over its continuation, in nats
  bool complete = false;       // not ended early
};

// The ranks share the requests; every one gets all results. Throws DataError for a request without context or
// continuation, or with a continuation longer than context_length.
LogProbabilities score_requests(Transformer& model, UnitRunner& runner, const std::vector<ScoreRequest>& requests,
                                Peers& peers, const ScoringOptions& options);

}  // namespace norma
