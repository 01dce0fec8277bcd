// The loss that counting reaches on the same data. A model with a higher loss has not learnt from context.
#pragma once

#include <cstdint>

#include "norma/data/token_file.h"

namespace norma {

// Cross-entropies in nats per predicted token.
struct NgramBaseline {
  double unigram_nats = 0;
  double bigram_nats = 0;
  std::int64_t tokens = 0;  // predicted tokens of the validation set
};

// Counts the tokens of the instances of `train` and scores the tokens that a model is scored on: positions 1 .. T-1 of
// every instance of `validation`, whose T may differ. Both estimates add one to every count of a vocabulary of V ids:
//
//   unigram  P(b) = (count(b) + 1) / (N + V)                   of N tokens
//   bigram   P(b | a) = (count(a, b) + 1) / (starts(a) + V)    of pairs within an instance; starts(a) of them start
//   with a
//
// Memory grows with the number of different pairs (27 to 54 bytes each), not with the length of the text. Throws
// DataError when an id is not below vocab_size.
NgramBaseline ngram_baseline(const TokenDataset& train, const TokenDataset& validation, std::int64_t vocab_size);

}  // namespace norma
