// Which requests run together. Integers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "norma/eval/query.h"

namespace norma {

// A continuation that goes on from a context which has been read.
struct Tail {
  std::int64_t context = 0;  // row of the batch's contexts
  std::size_t request = 0;
};

// Requests that go through the model together: each alone, or those of a question after the context they share.
struct ScoreBatch {
  std::vector<std::vector<std::size_t>> questions;  // of one request each unless contexts are shared
  bool shares_contexts = false;                     // then all contexts have one length
  // Of shared contexts: what goes through the model after them, in groups of similar length. The context alone predicts
  // a continuation of one token, which is in no group.
  std::vector<std::vector<Tail>> tails;
};

struct BatchRules {
  std::int64_t batch_tokens = 0;    // of a forward, padding included
  std::int64_t context_length = 0;  // of a query
  bool share_contexts = false;
};

// Longest first, so that the ranks, which take turns, are busy for equally long.
std::vector<ScoreBatch> make_batches(const std::vector<ScoreRequest>& requests, const BatchRules& rules);

}  // namespace norma
