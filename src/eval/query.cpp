#include "norma/eval/query.h"

#include <algorithm>

namespace norma {

Query::Query(const ScoreRequest& request, std::int64_t context_length) : request_(request) {
  const auto all = static_cast<std::int64_t>(request.context.size() + request.continuation.size()) - 1;
  dropped_ = std::max<std::int64_t>(all - context_length, 0);
  length_ = all - dropped_;
}

std::uint32_t Query::token(std::int64_t i) const {
  const auto place = static_cast<std::size_t>(i + dropped_);
  const std::size_t context = request_.context.size();
  return place < context ? request_.context[place] : request_.continuation[place - context];
}

}  // namespace norma
