// Opens what is to be evaluated: validation sets, and tasks as token ids.
#pragma once

#include <functional>
#include <string>

#include "norma/config/config.h"
#include "norma/eval/evaluation.h"

#include "run_tokenizer.h"

namespace norma {

struct EvaluationSources {
  const RunConfig& config;  // its section eval says what to open
  // Finds the model's tokenizer. It is called at most once, and only when text must become tokens or bytes must be
  // counted. When it throws DataError, bits per byte are left out, unless the user named the tokenizer.
  std::function<FoundTokenizer()> find_tokenizer;
  bool tokenizer_is_named = false;
  std::string tokenizer_checksum = {};  // of the tokenizer that made the model's tokens; "": unknown
  std::int64_t instance_length = 0;     // tokens of an instance of a set; 0: model.sequence_length
  int threads = 1;                      // for tokenizing
};

// Text files of a set are tokenized now. Throws ConfigError (unknown tasks, a set of tokens and text), DataError (a
// file, a tokenizer, token files of another tokenizer, a request that does not fit the model).
EvaluationInput open_evaluation(const EvaluationSources& sources);

// A hash of all token ids that will be read. Processes that share the work must agree on it.
std::string fingerprint(const EvaluationInput& input);

}  // namespace norma
