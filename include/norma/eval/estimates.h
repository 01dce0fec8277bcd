// A task's metrics, estimated from log-probabilities. Nothing here knows a tensor.
//
// log p is the sum over a continuation's tokens; the metrics of a document compare its continuations:
//
//   acc      is the right one the most probable?            argmax log p            == label (the first wins ties)
//   len_norm acc with log p per character                   argmax log p / chars    == label
//   ce_loss  nats per character of the right one            -log p / chars
//   bpb      bits per byte of the right one                 -log p / bytes / ln 2
//   f1       F1 score of acc's choices, class 0 positive
//
// OLMo's definitions leave the first character, a space, out of chars and bytes (olmo/eval/downstream.py);
// those of OLMES (arXiv 2406.08446, "v2" in ai2-olmo-eval) count the whole continuation and are named len_norm_v2,
// ce_loss_v2 and bpb_v2. Documents of one continuation have no acc, len_norm or f1.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "norma/record/results.h"

namespace norma {

struct TextLengths {
  std::int64_t characters = 0, bytes = 0;              // of the whole text: code points, UTF-8 bytes
  std::int64_t later_characters = 0, later_bytes = 0;  // without the first character
};
TextLengths text_lengths(std::string_view utf8);

struct ScoredContinuation {
  double log_probability = 0.0;  // nats
  TextLengths lengths;
};

struct ScoredDocument {
  std::int64_t document = 0;  // as the task numbers them
  std::int64_t label = 0;     // index of the right continuation
  std::vector<ScoredContinuation> continuations;
};

// A mean over documents and its standard error, with n - 1 in the denominator. f1 is a score of all documents, with a
// standard error by the jackknife. One document alone has no standard error.
struct Estimate {
  double value = 0.0;
  std::optional<double> standard_error;
  std::int64_t documents = 0;
};

struct MetricEstimate {
  TaskMetric metric = TaskMetric::acc;
  Estimate estimate;
};

// Every metric that applies to these documents, in a fixed order; f1 only on request.
std::vector<MetricEstimate> task_estimates(const std::vector<ScoredDocument>& documents, bool with_f1);

// One document's value in a mean. There is none for f1, nor for acc and len_norm of a single continuation.
std::optional<double> document_value(const ScoredDocument& document, TaskMetric metric);

// The mean of the values and its standard error.
Estimate mean_of(const std::vector<double>& values);

// The sum of a divided by the sum of b, with the (linearized) standard error of the ratio estimator.
Estimate ratio_of(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace norma
