// Validation perplexity on token files, in two ways.
//
// By instance, as OLMo's in-loop evaluator does it: the files are read as instances of T tokens, and the result is the
// mean over instances of the mean cross-entropy of their T - 1 targets. Instances are equally long, so this is a mean
// over tokens too.
//
// By document, as in lm-eval-harness' rolling log-likelihood: every token of a document is scored once, the first one
// after an end-of-text, the others after up to T - 1 tokens of the same document. Nats per token and bits per byte are
// sums over all documents, divided by the sums of their tokens and bytes.
//
// Both take the softmax over the whole padded vocabulary and add no z-loss.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "norma/base/peers.h"
#include "norma/data/token_file.h"
#include "norma/eval/estimates.h"
#include "norma/eval/log_probabilities.h"
#include "norma/model/transformer.h"

namespace norma {

struct PerplexityOptions {
  std::int64_t batch_size = 8;
  std::int64_t max_instances = 0;  // 0: all
  std::int64_t loss_chunk = 1024;
  at::Device device = at::kCPU;
  // Called after each batch on every rank, unless it is empty. False on any rank ends the evaluation early on all.
  std::function<bool(std::int64_t done, std::int64_t total)> progress;
};

struct Perplexity {
  double cross_entropy = 0.0;            // nats per token
  std::optional<double> standard_error;  // of the mean over instances
  std::int64_t instances = 0;            // seen
  bool complete = false;                 // not ended early
  double perplexity() const;
};

// The ranks share the instances; every one gets the result.
Perplexity evaluate_perplexity(Transformer& model, UnitRunner& runner, const TokenDataset& dataset, Peers& peers,
                               const PerplexityOptions& options);

struct DocumentPerplexity {
  Estimate nats_per_token;
  std::optional<Estimate> bits_per_byte;  // where the bytes of tokens are known
  std::int64_t tokens = 0, bytes = 0;
  bool complete = false;
};

// token_bytes: by id, as Tokenizer::token_bytes(); empty when unknown. The ranks share the documents.
DocumentPerplexity evaluate_documents(Transformer& model, UnitRunner& runner, const TokenDocuments& documents,
                                      std::span<const std::int64_t> token_bytes, Peers& peers,
                                      const ScoringOptions& options);

}  // namespace norma
