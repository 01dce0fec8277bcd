// Building blocks of the checks of a config.
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "norma/base/text.h"
#include "norma/config/config.h"

namespace norma {

// Collects problems. The text of each says what must hold and what was given.
class Checker {
 public:
  static constexpr double kLargest = std::numeric_limits<double>::max();

  // Returns whether it holds, so that checks that build on it can be skipped.
  bool require(bool holds, const std::string& key, const std::string& text) {
    if (!holds) problems_.push_back({key, 0, text});
    return holds;
  }

  bool integer(const std::string& key, std::int64_t value, std::int64_t low, std::int64_t high) {
    return require(value >= low && value <= high, key,
                   cat("must be from ", with_commas(low), " to ", with_commas(high), "; got ", with_commas(value)));
  }

  bool integer(const std::string& key, const std::optional<std::int64_t>& value, std::int64_t low, std::int64_t high) {
    return !value || integer(key, *value, low, high);
  }

  // low <= value <= high, finite.
  bool number(const std::string& key, double value, double low, double high = kLargest) {
    const std::string allowed = high == kLargest ? cat("finite and at least ", shortest(low))
                                                 : cat("from ", shortest(low), " to ", shortest(high));
    return require(value >= low && value <= high, key, cat("must be ", allowed, "; got ", shortest(value)));
  }

  bool positive(const std::string& key, double value) {
    return require(value > 0.0 && value <= kLargest, key, cat("must be finite and above 0; got ", shortest(value)));
  }

  // low <= value < high.
  bool below(const std::string& key, double value, double low, double high) {
    return require(value >= low && value < high, key,
                   cat("must be at least ", shortest(low), " and below ", shortest(high), "; got ", shortest(value)));
  }

  bool empty() const { return problems_.empty(); }
  Problems take() { return std::move(problems_); }

 private:
  Problems problems_;
};

// Checks heads, latents and RoPE.
void check_attention(const ModelConfig& model, Checker& check);

// Upper bounds for attention in one layer, as numbers that cannot overflow: the weights of its matrices, and the
// elements of all its activations per token.
struct AttentionSize {
  double parameters = 0.0, widths = 0.0;
};
AttentionSize attention_size(const ModelConfig& model);

// Checks experts, router and the MLP kinds of layers.
void check_moe(const ModelConfig& model, Checker& check);

}  // namespace norma
