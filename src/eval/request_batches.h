// Which requests go through the model together. Integers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "norma/eval/requests.h"

namespace norma {

// A continuation whose context the model has already read.
struct Tail {
  std::int64_t context = 0;  // the row of its context in the batch
  std::size_t request = 0;
};

// Requests that go through the model together: each with its own context, or those of a question after the one they
// share.
struct RequestBatch {
  std::vector<std::vector<std::size_t>> questions;  // one request each, unless contexts are shared
  bool shares_contexts = false;                     // then all contexts have one length
  // What goes through the model after shared contexts, in groups of similar length. A continuation of one token is in
  // no group: the context alone predicts it.
  std::vector<std::vector<Tail>> tails;
};

struct BatchRules {
  std::int64_t batch_tokens = 0;    // the most tokens of a forward pass, padding included
  std::int64_t context_length = 0;  // the most tokens of a request
  bool share_contexts = false;
};

// The longest batches come first, so that the ranks, which take turns, are busy for equally long.
std::vector<RequestBatch> make_batches(const std::vector<ScoreRequest>& requests, const BatchRules& rules);

}  // namespace norma
