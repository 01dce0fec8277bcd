// Generation: several prompts at once give what each of them gives alone, for any attention and placement; text is
// given out while it is generated.
#include "norma/eval/generate.h"

#include <fstream>
#include <set>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "norma/base/file.h"
#include "norma/base/json.h"

#include "support/small_tokenizer.h"
#include "support/tiny_model.h"
#include "support/workplace.h"

namespace norma {
namespace {

using testing::expect_failure;
using testing::make_tiny_model;
using testing::run_norma;
using testing::tiny_config;
using testing::tiny_ids;
using testing::TinyModel;

// Prompts of several lengths, of which some are equal.
const std::vector<TokenIds>& ragged_prompts() {
  static const std::vector<TokenIds> kPrompts = {{1, 2, 3},
                                                 {7},
                                                 {5, 4, 3, 2, 1, 9},
                                                 {8, 60, 8},
                                                 {2, 2, 2, 2},
                                                 {30, 31},
                                                 {7},
                                                 {11, 12, 13, 14, 15, 16, 17, 18, 19, 20}};
  return kPrompts;
}

TinyModel model_of(const RunConfig& config, const std::string& preset) {
  NormConfig norm;
  norm.preset = preset;
  return make_tiny_model(config, testing::plan_of(norm, config.model));
}

GenerateOptions options_of(double temperature, std::int64_t batch_rows) {
  GenerateOptions options;
  options.vocab_size = 61;
  options.max_tokens = 8;
  options.temperature = temperature;
  options.seed = 3;
  options.batch_rows = batch_rows;
  return options;
}

// The definition of generation: without a cache, the whole text is run again for every token.
TokenIds by_whole_forwards(const TinyModel& m, std::size_t index, const GenerateOptions& options) {
  const c10::NoGradGuard no_grad;
  const TokenIds& prompt = ragged_prompts()[index];
  TokenIds seen = prompt;
  for (std::int64_t i = 0; i < options.max_tokens; ++i) {
    if (static_cast<std::int64_t>(seen.size()) == m.model->config().sequence_length) break;
    const at::Tensor logits = m.model->logits(at::tensor(seen, at::kLong).unsqueeze(0), *m.engine);
    const std::int64_t token = sample_token(logits[0][-1], options, index, static_cast<std::uint64_t>(i));
    if (token == options.end_of_text) break;
    seen.push_back(token);
  }
  return {seen.begin() + static_cast<std::ptrdiff_t>(prompt.size()), seen.end()};
}

void expect_batches_change_nothing(const TinyModel& m, const std::string& what) {
  for (const double temperature : {0.0, 1.0}) {
    std::vector<TokenIds> want;
    GenerateOptions options = options_of(temperature, 1);
    for (std::size_t i = 0; i < ragged_prompts().size(); ++i) want.push_back(by_whole_forwards(m, i, options));
    for (const std::int64_t rows : {1, 3, 8}) {  // one by one; in rows that become free; all at once
      options.batch_rows = rows;
      EXPECT_EQ(generate(*m.model, *m.engine, ragged_prompts(), options), want)
          << what << ", temperature " << temperature << ", " << rows << " rows";
    }
    options.end_of_text = want[2][3];  // some texts end early
    std::vector<TokenIds> ended;
    for (std::size_t i = 0; i < ragged_prompts().size(); ++i) ended.push_back(by_whole_forwards(m, i, options));
    for (const std::int64_t rows : {2, 8}) {
      options.batch_rows = rows;
      EXPECT_EQ(generate(*m.model, *m.engine, ragged_prompts(), options), ended) << what << " with an end of text";
    }
  }
}

TEST(GenerateBatches, EqualWholeForwardsOfEachPrompt) {
  for (const char* preset : {"hybrid_star", "olmo2", "qkvc_post"}) {
    expect_batches_change_nothing(model_of(tiny_config(2), preset), preset);
  }
}

TEST(GenerateBatches, EqualWholeForwardsWithLatents) {
  for (const char* preset : {"pre", "qk", "hybrid_star", "qkvc_post"}) {
    expect_batches_change_nothing(model_of(testing::tiny_latent_config(2), preset), cat("latent ", preset));
  }
}

TEST(GenerateBatches, EqualWholeForwardsWithDocumentsAndExperts) {
  RunConfig config = tiny_config(2);
  config.model.document_separator = 60;  // it occurs in prompts, too
  expect_batches_change_nothing(model_of(config, "hybrid"), "documents");
  config.model.mlp = MlpKind::moe;
  config.model.moe.num_experts = 4;
  expect_batches_change_nothing(model_of(config, "hybrid_star"), "experts");
  RunConfig latent = testing::tiny_latent_config(2);
  latent.model.document_separator = 60;
  expect_batches_change_nothing(model_of(latent, "hybrid"), "latent documents");
}

TEST(GenerateBatches, DrawsDependOnSeedIndexAndPositionAlone) {
  const TinyModel m = model_of(tiny_config(2), "hybrid_star");
  GenerateOptions options = options_of(1.0, 8);
  const auto all = generate(*m.model, *m.engine, ragged_prompts(), options);
  EXPECT_NE(all[1], all[6]);  // the same prompt at another index
  const std::vector<TokenIds> first(ragged_prompts().begin(), ragged_prompts().begin() + 3);
  EXPECT_EQ(generate(*m.model, *m.engine, first, options), std::vector<TokenIds>(all.begin(), all.begin() + 3));
  options.max_tokens = 5;
  const auto shorter = generate(*m.model, *m.engine, ragged_prompts(), options);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(shorter[i], TokenIds(all[i].begin(), all[i].begin() + static_cast<std::ptrdiff_t>(shorter[i].size())));
  }
}

TEST(GenerateBatches, ReportEveryEndAndStopAtOnce) {
  const TinyModel m = model_of(tiny_config(2), "hybrid_star");
  std::vector<int> tokens(ragged_prompts().size(), 0), ends(ragged_prompts().size(), 0);
  GenerateEvents events;
  events.token = [&](std::size_t prompt, std::int64_t) { return ++tokens[prompt] < (prompt == 2 ? 3 : 100); };
  events.end = [&](std::size_t prompt, EndOfPrompt end) {
    ++ends[prompt];
    EXPECT_EQ(end, prompt == 2 ? EndOfPrompt::stopped : EndOfPrompt::length);
  };
  const auto results = generate(*m.model, *m.engine, ragged_prompts(), options_of(1.0, 3), events);
  EXPECT_EQ(ends, std::vector<int>(ragged_prompts().size(), 1));
  EXPECT_EQ(results[2].size(), 3U);
  EXPECT_EQ(results[7].size(), 6U);  // all that fits into a context of 16
  int asked = 0;
  events = {};
  events.cancelled = [&] { return ++asked > 12; };
  std::size_t sum = 0;
  for (const TokenIds& one : generate(*m.model, *m.engine, ragged_prompts(), options_of(1.0, 3), events))
    sum += one.size();
  EXPECT_GT(sum, 0U);
  EXPECT_LT(sum, 40U);
}

// The store of the cache stays where it is until it is full, and then doubles: adding a token does not copy the others.
TEST(DecodeCache, GrowsByDoubling) {
  const TinyModel m = model_of(tiny_config(1), "pre");
  const c10::NoGradGuard no_grad;
  for (const std::int64_t reserve : {0, 16}) {
    DecodeCache cache(reserve);
    std::set<const void*> addresses;
    for (std::int64_t t = 0; t < 16; ++t) {
      m.model->next_logits(tiny_ids().narrow(1, t, 1), *m.engine, cache);
      addresses.insert(cache.layers[0].keys.seen().const_data_ptr());
      EXPECT_EQ(cache.layers[0].keys.seen().size(1), t + 1);
    }
    EXPECT_EQ(addresses.size(), reserve == 0 ? 5U : 1U);  // for 1, 2, 4, 8 and 16 tokens
  }
}

Tokenizer small_tokenizer() {
  return Tokenizer::from_json(testing::small_tokenizer_json().dump(), "test");
}

// The text that is settled after each token.
std::vector<std::string> settled_texts(const std::string& text, const std::vector<std::string>& stops) {
  const Tokenizer tokenizer = small_tokenizer();
  TextStream stream(tokenizer, stops);
  std::vector<std::string> texts;
  for (const unsigned char byte : text) {  // ids below 256 are bytes
    const bool goes_on = stream.add(byte);
    texts.push_back(stream.text().substr(0, stream.settled()));
    if (!goes_on) return texts;
  }
  stream.finish();
  texts.push_back(stream.text());
  return texts;
}

TEST(TextStream, StopsAcrossTokensAndHoldsBackWhatMayBecomeAStop) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(settled_texts("abc", {}), (Texts{"a", "ab", "abc", "abc"}));
  EXPECT_EQ(settled_texts("ab\n\nc", {"\n\n"}), (Texts{"a", "ab", "ab", "ab"}));
  EXPECT_EQ(settled_texts("aab", {"aac", "ab"}), (Texts{"", "", "a"}));
  EXPECT_EQ(settled_texts("aXb", {"Xc"}), (Texts{"a", "a", "aXb", "aXb"}));
  EXPECT_EQ(settled_texts("ab", {"bc"}),
            (Texts{"a", "a", "ab"}));  // "b" was held back, because "bc" would end the text
  EXPECT_EQ(settled_texts("\xc3\xa9!", {"!"}), (Texts{"", "\xc3\xa9", "\xc3\xa9"}));
  EXPECT_EQ(settled_texts("a\xc3", {}), (Texts{"a", "a", "a\xef\xbf\xbd"}));
  TextStream whole(small_tokenizer(), {"ow"});  // it occurs inside of the token "low"
  EXPECT_FALSE(whole.add(*small_tokenizer().token_id("low")));
  EXPECT_EQ(whole.text(), "l");
}

// A tiny trained model with its tokenizer.
class GenerateProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(tokenizer_) << testing::small_tokenizer_json().dump();
    const auto trained = work_.train("run", {"model.vocab_size=273", "model.embedding_rows=288", "train.max_duration=1",
                                             "schedule.warmup=0", "eval.every=0"});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
  }
  testing::ProgramResult generate_with(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"generate", work_.path("run"),      "--tokenizer",  tokenizer_, "--seed",
                                          "5",        "--ignore-end-of-text", "--max-tokens", "6"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_norma(arguments);
  }

  testing::Workplace work_;
  std::string tokenizer_ = work_.path("tokenizer.json");
};

TEST_F(GenerateProgram, ManyPromptsInOrderAndAsJson) {
  std::ofstream(work_.path("p.jsonl")) << "{\"prompt\": \"a low\"}\n\n{\"prompt\": \"new\", \"id\": 3}\n";
  std::ofstream(work_.path("p.txt")) << "a low\r\n\nnew";
  const auto json = generate_with({"--prompts", work_.path("p.jsonl"), "--out", work_.path("out.jsonl")});
  ASSERT_EQ(json.exit_code, 0) << json.err;
  EXPECT_EQ(generate_with({"--prompts", work_.path("p.txt")}).out, json.out);
  EXPECT_EQ(generate_with({"--prompt", "a low", "--prompt", "new", "--batch", "1"}).out, json.out);
  const auto alone = generate_with({"--prompt", "a low"});
  EXPECT_TRUE(json.out.starts_with(alone.out)) << json.out << "\n---\n" << alone.out;
  const std::vector<std::string> lines = split(trim(read_file(work_.path("out.jsonl"), 1 << 20)), '\n');
  ASSERT_EQ(lines.size(), 2U);
  const Json first = parse_json(lines[0], "line 1"), second = parse_json(lines[1], "line 2");
  EXPECT_EQ(first.at("prompt"), "a low");
  EXPECT_EQ(second.at("prompt"), "new");
  EXPECT_EQ(second.at("tokens"), 6);
  EXPECT_EQ(second.at("end"), "length");
  EXPECT_EQ(first.at("prompt").get<std::string>() + first.at("text").get<std::string>() + "\n", alone.out);
}

TEST_F(GenerateProgram, StopTextsEndATextBeforeThem) {
  const std::string whole = generate_with({"--prompt", "a low"}).out;
  const std::string tail = trim(whole.substr(5));
  ASSERT_GE(tail.size(), 2U);
  const std::string stop = tail.substr(tail.size() - 1);
  const std::string cut = generate_with({"--prompt", "a low", "--stop", stop}).out;
  EXPECT_EQ(cut, whole.substr(0, whole.find(stop, 5)) + "\n");
}

TEST_F(GenerateProgram, BadInputIsNamed) {
  std::ofstream(work_.path("p.jsonl")) << "{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n";
  expect_failure(generate_with({"--prompts", work_.path("p.jsonl")}), 3, {"p.jsonl:2", "'prompt' is missing"});
  std::ofstream(work_.path("p.jsonl")) << "{\"prompt\": \n";
  expect_failure(generate_with({"--prompts", work_.path("p.jsonl")}), 3, {"p.jsonl:1"});
  std::ofstream(work_.path("p.txt")) << "\n \n";
  expect_failure(generate_with({"--prompts", work_.path("p.txt")}), 3, {"holds no prompt"});
  expect_failure(generate_with({"--prompts", work_.path("none")}), 3, {"none"});
  expect_failure(generate_with({"--stop", ""}), 2, {"--stop must not be empty"});
  expect_failure(generate_with({"--batch", "0"}), 2, {"--batch"});
  expect_failure(generate_with({"--out", work_.path("run")}), 2, {"it is a folder"});
}

}  // namespace
}  // namespace norma
