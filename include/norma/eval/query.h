// What a model reads to score one text after another. Integers only.
#pragma once

#include <cstdint>
#include <span>

namespace norma {

// The tokens of `continuation` are scored, each given all before it. Neither may be empty; the ids are kept elsewhere.
struct ScoreRequest {
  std::span<const std::uint32_t> context, continuation;
};

// The last context_length tokens of context + continuation without its last token.
class Query {
 public:
  Query(const ScoreRequest& request, std::int64_t context_length);

  std::int64_t length() const { return length_; }
  // Tokens of the context in it; token i of the continuation is predicted in row context_length() - 1 + i.
  std::int64_t context_length() const { return length_ - static_cast<std::int64_t>(request_.continuation.size()) + 1; }
  std::uint32_t token(std::int64_t i) const;
  bool is_cut() const { return dropped_ > 0; }

 private:
  ScoreRequest request_;
  std::int64_t dropped_, length_;
};

}  // namespace norma
