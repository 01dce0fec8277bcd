#include "norma/eval/requests.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "norma/base/error.h"
#include "norma/base/thread_pool.h"

namespace norma {

namespace {

// The different texts, numbered in the order of their first use.
class TextTable {
 public:
  std::size_t add(std::string_view text) {
    const auto [entry, is_new] = numbers_.try_emplace(text, texts_.size());
    if (is_new) texts_.push_back(text);
    return entry->second;
  }
  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  std::unordered_map<std::string_view, std::size_t> numbers_;
  std::vector<std::string_view> texts_;
};

using Ids = std::vector<std::uint32_t>;

std::vector<Ids> encode_all(const std::vector<std::string_view>& texts, const Tokenizer& tokenizer, int num_threads) {
  std::vector<Ids> ids(texts.size());
  parallel_ranges(static_cast<std::int64_t>(texts.size()), num_threads, [&](std::int64_t begin, std::int64_t end) {
    Tokenizer::Scratch scratch;
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      tokenizer.encode(texts[i], ids[i], scratch);
    }
  });
  return ids;
}

// Appends the lists to `all` and frees them one by one, so that memory is not held twice.
std::vector<TokenSpan> concatenate(std::vector<Ids> lists, Ids& all) {
  std::size_t total = 0;
  for (const Ids& list : lists) total += list.size();
  all.reserve(total);
  std::vector<TokenSpan> spans;
  spans.reserve(lists.size());
  for (Ids& list : lists) {
    spans.push_back({all.size(), list.size()});
    all.insert(all.end(), list.begin(), list.end());
    Ids().swap(list);
  }
  return spans;
}

}  // namespace

RequestWindow::RequestWindow(const ScoreRequest& request, std::int64_t context_length) : request_(request) {
  const auto all = static_cast<std::int64_t>(request.context.size() + request.continuation.size()) - 1;
  dropped_ = std::max<std::int64_t>(all - context_length, 0);
  length_ = all - dropped_;
}

std::uint32_t RequestWindow::token(std::int64_t position) const {
  const auto index = static_cast<std::size_t>(position + dropped_);
  const std::size_t context = request_.context.size();
  return index < context ? request_.context[index] : request_.continuation[index - context];
}

TokenizedTask tokenize_task(const Task& task, const Tokenizer& tokenizer, int num_threads) {
  TextTable table;
  std::vector<std::pair<std::size_t, std::size_t>> numbers;  // of the context and the continuation of each request
  numbers.reserve(task.requests.size());
  for (const TaskRequest& request : task.requests) {
    const std::size_t context = table.add(request.context);
    numbers.emplace_back(context, table.add(request.text));
  }
  TokenizedTask result{.name = task.name, .metric = task.metric, .ids = {}, .requests = {}, .left_out = 0};
  const std::vector<TokenSpan> spans = concatenate(encode_all(table.texts(), tokenizer, num_threads), result.ids);
  result.requests.reserve(task.requests.size());
  for (std::size_t i = 0; i < task.requests.size(); ++i) {
    const TaskRequest& request = task.requests[i];
    const TokenSpan context = spans[numbers[i].first], text = spans[numbers[i].second];
    if (context.size == 0 || text.size == 0) {
      throw DataError(cat("[eval] task ", task.name, ", document ", request.document,
                          ": context and continuation must each give at least one token; the ",
                          context.size == 0 ? "context" : "continuation", " gives none"));
    }
    result.requests.push_back(
        {request.document, request.continuation, request.label, context, text, text_lengths(request.text)});
  }
  return result;
}

}  // namespace norma
