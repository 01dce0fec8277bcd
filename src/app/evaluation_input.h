// What is to be evaluated, opened: validation sets, and tasks as token ids.
#pragma once

#include <functional>

#include "norma/config/config.h"
#include "norma/eval/evaluation.h"

#include "run_tokenizer.h"

namespace norma {

// Finds the model's tokenizer; asked at most once, and only when text must become tokens or bytes be counted.
using TokenizerFinder = std::function<FoundTokenizer()>;

// Sets and tasks of config.eval. Text files of a set are tokenized now. Throws ConfigError (unknown tasks, a set of
// tokens and text), DataError.
EvaluationInput open_evaluation(const RunConfig& config, const TokenizerFinder& find_tokenizer);

}  // namespace norma
