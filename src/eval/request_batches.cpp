#include "request_batches.h"

#include <algorithm>
#include <functional>
#include <map>

namespace norma {
namespace {

std::int64_t size_of(std::span<const std::uint32_t> ids) {
  return static_cast<std::int64_t>(ids.size());
}

using Question = std::vector<std::size_t>;

std::vector<RequestBatch> batches_of_rows(const std::vector<ScoreRequest>& requests, std::vector<std::size_t> order,
                                          const BatchRules& rules) {
  const auto length = [&](std::size_t i) { return RequestWindow(requests[i], rules.context_length).length(); };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return length(a) > length(b); });
  std::vector<RequestBatch> batches;
  std::int64_t longest = 0;
  for (const std::size_t i : order) {
    const auto rows = batches.empty() ? 0 : static_cast<std::int64_t>(batches.back().questions.size());
    if (rows == 0 || (rows + 1) * longest > rules.batch_tokens) {
      batches.emplace_back();
      longest = length(i);
    }
    batches.back().questions.push_back({i});
  }
  return batches;
}

// The tokens of the cache that a question takes: its context again for each continuation, which follows it.
std::int64_t cache_tokens(const std::vector<ScoreRequest>& requests, const Question& question) {
  std::int64_t longest = 0;
  for (const std::size_t i : question) longest = std::max(longest, size_of(requests[i].continuation));
  return (size_of(requests[question[0]].context) + longest) * std::ssize(question);
}

// Continuations differ in length far more than whole requests do, so that a batch of all of them would mostly be
// padding. A group ends before a tail with less than kSimilar of the longest one's tokens, if the group fills kEnough
// of a forward.
std::vector<std::vector<Tail>> group_tails(const std::vector<ScoreRequest>& requests,
                                           const std::vector<Question>& questions, std::int64_t batch_tokens) {
  constexpr double kSimilar = 0.8, kEnough = 0.125;
  const auto length = [&](const Tail& tail) { return size_of(requests[tail.request].continuation) - 1; };
  std::vector<Tail> tails;
  for (std::size_t row = 0; row < questions.size(); ++row) {
    for (const std::size_t request : questions[row]) {
      const Tail tail{static_cast<std::int64_t>(row), request};
      if (length(tail) > 0) tails.push_back(tail);
    }
  }
  std::ranges::stable_sort(tails, std::greater<>(), length);
  std::vector<std::vector<Tail>> groups;
  for (const Tail& tail : tails) {
    const std::int64_t longest = groups.empty() ? 0 : length(groups.back()[0]);
    const bool is_similar = static_cast<double>(length(tail)) >= kSimilar * static_cast<double>(longest);
    const std::int64_t tokens = groups.empty() ? 0 : std::ssize(groups.back()) * longest;
    const bool is_enough = static_cast<double>(tokens) >= kEnough * static_cast<double>(batch_tokens);
    if (groups.empty() || (!is_similar && is_enough)) groups.emplace_back();
    groups.back().push_back(tail);
  }
  return groups;
}

// Only contexts of the same length run together, because a cache has no gaps.
std::vector<RequestBatch> batches_of_questions(const std::vector<ScoreRequest>& requests,
                                               const std::vector<Question>& questions, const BatchRules& rules) {
  std::map<std::int64_t, std::vector<Question>, std::greater<>> by_length;
  for (const Question& question : questions) by_length[size_of(requests[question[0]].context)].push_back(question);
  std::vector<RequestBatch> batches;
  for (const auto& [length, equal] : by_length) {
    std::int64_t tokens = 0;
    for (const Question& question : equal) {
      const std::int64_t more = cache_tokens(requests, question);
      if (tokens == 0 || tokens + more > rules.batch_tokens) {
        batches.push_back({{}, true, {}});
        tokens = 0;
      }
      batches.back().questions.push_back(question);
      tokens += more;
    }
  }
  for (RequestBatch& batch : batches) batch.tails = group_tails(requests, batch.questions, rules.batch_tokens);
  return batches;
}

// Collects neighbours with the same context, none of them cut, as many as a batch holds; all others go into `alone`.
std::vector<Question> find_questions(const std::vector<ScoreRequest>& requests, const BatchRules& rules,
                                     std::vector<std::size_t>& alone) {
  std::vector<Question> questions;
  for (std::size_t i = 0; i < requests.size();) {
    Question question;
    for (const std::size_t first = i; i < requests.size(); ++i) {
      if (!std::ranges::equal(requests[i].context, requests[first].context)) break;
      if (RequestWindow(requests[i], rules.context_length).is_cut()) {
        alone.push_back(i);
        continue;
      }
      question.push_back(i);
      if (question.size() == 1 || cache_tokens(requests, question) <= rules.batch_tokens) continue;
      question.pop_back();
      break;
    }
    if (question.size() == 1) alone.push_back(question[0]);
    if (question.size() > 1) questions.push_back(std::move(question));
  }
  return questions;
}

}  // namespace

std::vector<RequestBatch> make_batches(const std::vector<ScoreRequest>& requests, const BatchRules& rules) {
  std::vector<std::size_t> alone;
  std::vector<Question> questions;
  if (rules.share_contexts) {
    questions = find_questions(requests, rules, alone);
  } else {
    for (std::size_t i = 0; i < requests.size(); ++i) alone.push_back(i);
  }
  std::vector<RequestBatch> batches = batches_of_questions(requests, questions, rules);
  for (RequestBatch& batch : batches_of_rows(requests, std::move(alone), rules)) batches.push_back(std::move(batch));
  return batches;
}

}  // namespace norma
