// What norma eval writes: a table for people, results as JSON, and every document's scores as JSON lines.
#pragma once

#include <string>

#include "norma/base/json.h"
#include "norma/eval/evaluation.h"

namespace norma {

// What the numbers are of.
struct EvaluatedModel {
  std::string path;
  std::optional<std::int64_t> step;
  std::string precision, tokenizer_checksum;  // checksum "": no tokenizer was needed
  std::int64_t context_length = 0;
};

std::string results_table(const EvaluationResult& result);

// `predictions` ("" for none) is the name of the file with every document, seen from the results' folder.
Json results_json(const EvaluationResult& result, const EvaluatedModel& model, const std::string& predictions);

// A header line, then a line per document of every task.
std::string predictions_jsonl(const EvaluationResult& result, const EvaluatedModel& model);

}  // namespace norma
