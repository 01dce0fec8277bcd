// The requests of a task as token ids.
//
// Source: PyPI ai2-olmo-eval 0.9.0: context and continuation are tokenized apart, no special tokens, no beginning of
// text. What a model then reads of them is a Query.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "norma/data/tokenizer.h"
#include "norma/eval/query.h"
#include "norma/eval/scores.h"
#include "norma/eval/task.h"

namespace norma {

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

// Texts that come again are tokenized once. DataError naming task and document when a context or continuation gives no
// token.
TokenizedTask tokenize_task(const Task& task, const Tokenizer& tokenizer, int num_threads);

}  // namespace norma
