#include "norma/eval/requests.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "norma/base/error.h"
#include "norma/base/thread_pool.h"
#include "norma/data/characters.h"

namespace norma {

namespace {

// Different texts, numbered in the order of their first use.
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

// Puts the lists behind each other into `all` and gives them up one by one, so that memory is not held twice.
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

TokenizedTask tokenize_task(const Task& task, const Tokenizer& tokenizer, int num_threads) {
  TextTable table;
  std::vector<std::pair<std::size_t, std::size_t>> places;  // of context and continuation, per request
  places.reserve(task.requests.size());
  for (const TaskRequest& request : task.requests) {
    const std::size_t context = table.add(request.context);
    places.emplace_back(context, table.add(request.text));
  }
  TokenizedTask result{.name = task.name, .metric = task.metric, .ids = {}, .requests = {}};
  const std::vector<TokenSpan> spans = concatenate(encode_all(table.texts(), tokenizer, num_threads), result.ids);
  result.requests.reserve(task.requests.size());
  for (std::size_t i = 0; i < task.requests.size(); ++i) {
    const TaskRequest& request = task.requests[i];
    const TokenSpan context = spans[places[i].first], text = spans[places[i].second];
    if (context.size == 0 || text.size == 0) {
      throw DataError(cat("[eval] task ", task.name, ", document ", request.document,
                          ": context and continuation must each give at least one token; the ",
                          context.size == 0 ? "context" : "continuation", " gives none"));
    }
    const std::size_t first = first_character_bytes(request.text);
    result.requests.push_back({request.document, request.continuation, request.label, context, text,
                               count_characters(request.text) - 1,
                               static_cast<std::int64_t>(request.text.size() - first)});
  }
  return result;
}

std::int64_t TokenizedTask::longest_continuation() const {
  std::size_t longest = 0;
  for (const TokenizedRequest& request : requests) longest = std::max(longest, request.text.size);
  return static_cast<std::int64_t>(longest);
}

std::int64_t TokenizedTask::query_tokens(const TokenizedRequest& request, std::int64_t context_length) const {
  return std::min(static_cast<std::int64_t>(request.context.size + request.text.size) - 1, context_length);
}

TaskQuery TokenizedTask::query(const TokenizedRequest& request, std::int64_t context_length) const {
  const auto text_size = static_cast<std::int64_t>(request.text.size);
  if (text_size > context_length) {
    throw ConfigError(cat("[eval] task ", name, ", document ", request.document,
                          ": the context length must be at least that of the continuation, ", text_size,
                          " tokens; got ", context_length));
  }
  const std::int64_t size = query_tokens(request, context_length);
  TaskQuery query{.ids = {}, .context_tokens = size - text_size + 1};
  const auto context = part(request.context).last(static_cast<std::size_t>(query.context_tokens));
  const auto text = part(request.text).first(request.text.size - 1);
  query.ids.reserve(static_cast<std::size_t>(size));
  query.ids.assign(context.begin(), context.end());
  query.ids.insert(query.ids.end(), text.begin(), text.end());
  return query;
}

}  // namespace norma
