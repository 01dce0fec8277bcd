// Which requests run together. Integers only.
#pragma once

#include <cstdint>
#include <vector>

#include "norma/eval/scoring.h"

namespace norma {

// What the model reads of a request: the last tokens of context + continuation[:-1].
class Query {
 public:
  Query(const ScoreRequest& request, std::int64_t context_length);

  std::int64_t length() const { return length_; }
  std::int64_t first_scored() const {
    return length_ - continuation_ + 1;
  }  // continuation[0] follows what is before it
  std::uint32_t token(std::int64_t i) const;
  bool is_cut() const { return dropped_ > 0; }

 private:
  const ScoreRequest& request_;
  std::int64_t continuation_, dropped_, length_;
};

// Requests that go through the model together: each alone, or those of a question after the context they share.
struct ScoreBatch {
  std::vector<std::vector<std::size_t>> questions;  // of one request each unless contexts are shared
  bool shares_contexts = false;                     // then all contexts have one length
};

// Longest first, so that the ranks, which take turns, are busy for equally long.
std::vector<ScoreBatch> make_batches(const std::vector<ScoreRequest>& requests, const ScoringOptions& options);

}  // namespace norma
