// The catalogue of tasks, their prompts for a little data that is made here, and requests as tokens.
#include "norma/eval/tasks.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "norma/data/characters.h"
#include "norma/eval/requests.h"

#include "support/eval_data_folder.h"
#include "support/small_tokenizer.h"

namespace norma {
namespace {

using nlohmann::json;
using testing::DataFolder;
using testing::expect_error;
using testing::request_row;
using Texts = std::vector<std::string>;

Task load_one(const std::string& task, const std::string& table, const json& row) {
  DataFolder data;
  data.add("tables/" + table + "/validation.jsonl", {row});
  return TaskFolder(data.root()).load(task);
}

// ---- The catalogue ----

TEST(TaskCatalogue, HoldsTheTasksOfTheInLoopEvaluations) {
  std::map<std::string, std::string> metrics;
  for (const TaskInfo& info : task_catalogue()) {
    EXPECT_TRUE(metrics.emplace(info.name, metric_name(info.metric)).second) << info.name;
    EXPECT_FALSE(info.source.empty());
  }
  const std::map<std::string, std::string> expected = {{"piqa", "len_norm"},
                                                       {"hellaswag", "len_norm"},
                                                       {"winogrande", "acc"},
                                                       {"openbook_qa", "len_norm"},
                                                       {"boolq", "acc"},
                                                       {"sciq", "acc"},
                                                       {"arc_easy", "acc"},
                                                       {"arc_challenge", "len_norm"},
                                                       {"copa", "acc"},
                                                       {"commonsense_qa", "len_norm"},
                                                       {"social_iqa", "len_norm"},
                                                       {"basic_arithmetic", "acc"},
                                                       {"arc_easy_ppl", "ce_loss"},
                                                       {"mrpc", "f1"},
                                                       {"trivia_qa_wiki_ppl", "ce_loss"},
                                                       {"sst2", "acc"},
                                                       {"rte", "len_norm"},
                                                       {"natural_qs_open_ppl", "ce_loss"},
                                                       {"hellaswag_bpb_5shot", "bpb"},
                                                       {"mmlu_stem_bpb", "bpb"},
                                                       {"winogrande_val_rc_5shot", "len_norm"},
                                                       {"naturalqs_bpb_5shot", "bpb"},
                                                       {"mt_mbpp_r_gold_bpb_3shot", "bpb"}};
  for (const auto& [name, metric] : expected) EXPECT_EQ(metrics[name], metric) << name;
  for (const char* category : {"stem", "humanities", "social_sciences", "other"}) {
    for (const char* format : {"var", "mc_5shot", "mc_5shot_test"}) {
      EXPECT_EQ(metrics[cat("mmlu_", category, "_", format)], "len_norm");
    }
  }
}

TEST(TaskCatalogue, IsListedOneTaskALine) {
  const std::vector<std::string> lines = split(task_listing(), '\n');
  ASSERT_EQ(lines.size(), task_catalogue().size() + 1);  // the last line is empty
  for (std::size_t i = 0; i < task_catalogue().size(); ++i) {
    EXPECT_TRUE(lines[i].starts_with(task_catalogue()[i].name + " ")) << lines[i];
  }
  EXPECT_NE(task_listing().find("scores the first choice"), std::string::npos);
}

TEST(TaskCatalogue, ResolvesNamesAndGlobsInOrder) {
  EXPECT_EQ(resolve_tasks({"sciq", "boolq"}), (Texts{"sciq", "boolq"}));
  EXPECT_EQ(resolve_tasks({"sciq, boolq,", "sciq"}), (Texts{"sciq", "boolq"}));
  EXPECT_EQ(resolve_tasks({"boolq", "mmlu_*[mrs]_mc_5shot", "mmlu_stem_mc_5shot"}),
            (Texts{"boolq", "mmlu_stem_mc_5shot", "mmlu_humanities_mc_5shot", "mmlu_social_sciences_mc_5shot",
                   "mmlu_other_mc_5shot"}));
  EXPECT_EQ(resolve_tasks({"arc_easy_pp[l]", "sc?q"}), (Texts{"arc_easy_ppl", "sciq"}));
  EXPECT_EQ(resolve_tasks({"*"}).size(), task_catalogue().size());
}

TEST(TaskCatalogue, RefusesUnknownNames) {
  expect_error<ConfigError>([] { resolve_tasks({"boolq,hellasswag"}); },
                            {"'hellasswag'", "did you mean 'hellaswag'?", "--list"});
  expect_error<ConfigError>([] { resolve_tasks({"mmlu_*_vars"}); }, {"no task matches 'mmlu_*_vars'"});
  expect_error<ConfigError>([] { resolve_tasks({" , "}); }, {"at least one task"});
  expect_error<ConfigError>([] { resolve_tasks({}); }, {"at least one task"});
  DataFolder data;
  data.add("tables/boolq/validation.jsonl", {json::object()});
  expect_error<ConfigError>([&] { TaskFolder(data.root()).load("../boolq"); }, {"unknown task '../boolq'"});
}

// ---- Prompts ----

TEST(TaskPrompts, CleanHellaSwag) {
  const Task task = load_one("hellaswag", "hellaswag/none",
                             {{"activity_label", "\u0085 Roofs"},
                              {"ctx_a", "[header] How to  mend [title] Look."},
                              {"ctx_b", "\u00e9TE Two"},
                              {"endings", {" [step] up [ open", "a[b\nc]d[e]", "x   y", "[all] z "}},
                              {"label", "2"}});
  ASSERT_EQ(task.requests.size(), 4U);
  EXPECT_EQ(task.requests[0].context, "Roofs: How to mend. Look. \u00c9te two");
  const Texts expected = {"  up [ open", " a[b\nc]d", " x  y", "  z"};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(task.requests[i].text, expected[i]);
    EXPECT_EQ(task.requests[i].continuation, static_cast<std::int64_t>(i));
    EXPECT_EQ(task.requests[i].label, 2);
  }
}

TEST(TaskPrompts, LetContextsOrTextsBeShared) {
  const Task winogrande =
      load_one("winogrande", "winogrande/winogrande_xl",
               {{"sentence", "Then _ left_ .\u00a0"}, {"option1", "Ann"}, {"option2", "Bob"}, {"answer", "2"}});
  ASSERT_EQ(winogrande.requests.size(), 2U);
  EXPECT_EQ(winogrande.requests[0].context, "Then Ann");
  EXPECT_EQ(winogrande.requests[1].context, "Then Bob");
  EXPECT_EQ(winogrande.requests[1].text, " left_ .");
  EXPECT_EQ(winogrande.requests[1].label, 1);
  const Task copa = load_one("copa", "super_glue/copa",
                             {{"premise", " It fell\u3002 "},
                              {"choice1", "\u00c4pfel"},
                              {"choice2", "It Slept."},
                              {"question", "effect"},
                              {"label", 0}});
  EXPECT_EQ(copa.requests[0].context, "It fell therefore");
  EXPECT_EQ(copa.requests[0].text, " \u00e4pfel");
  EXPECT_EQ(copa.requests[1].text, " it Slept.");
}

TEST(TaskPrompts, JoinWhatGlueTookApart) {
  const Task task = load_one("sst2", "glue/sst2", {{"sentence", "it is n't ( \" bad \" ) , no  ."}, {"label", 1}});
  EXPECT_TRUE(task.requests[0].context.starts_with("it isn't (\"bad\"), no .\nQuestion:")) << task.requests[0].context;
}

TEST(TaskPrompts, ScoreTheFirstOrTheRightChoice) {
  const json row = {{"question", "why?"}, {"choices", {{"text", {"a b", "c"}}}}, {"answerKey", "2"}};
  EXPECT_EQ(load_one("arc_easy", "ai2_arc/ARC-Easy", row).requests[1].label, 1);
  const Task first = load_one("arc_easy_ppl", "ai2_arc/ARC-Easy", row);
  const Task right = load_one("arc_easy_ppl_correct", "ai2_arc/ARC-Easy", row);
  ASSERT_EQ(first.requests.size(), 1U);
  ASSERT_EQ(right.requests.size(), 1U);
  EXPECT_EQ(first.requests[0].text, " a b");
  EXPECT_EQ(right.requests[0].text, " c");
  EXPECT_EQ(right.requests[0].label, 0);
}

TEST(TaskPrompts, TakeReadyMadeRequests) {
  DataFolder data;
  data.add("requests/arc_easy/rc_5shot.jsonl",
           {request_row(3, 1, {0, 1}, {" a", " b"}), request_row(1'000'003, 1, {0, 1}, {" a", " b"}),
            request_row(4, 0, {0, 1}, {" c", " d"})});
  const Task all = TaskFolder(data.root()).load("arc_easy_rc_5shot");
  ASSERT_EQ(all.requests.size(), 4U);
  EXPECT_EQ(all.requests[1].document, 3);
  EXPECT_EQ(all.requests[1].text, " b");
  EXPECT_EQ(all.requests[2].document, 4);
  const Task right = TaskFolder(data.root()).load("arc_easy_rc_5shot_bpb");
  ASSERT_EQ(right.requests.size(), 2U);
  EXPECT_EQ(right.requests[0].text, " b");
  EXPECT_EQ(right.requests[0].continuation, 0);
  EXPECT_EQ(right.requests[0].label, 0);
  EXPECT_EQ(right.requests[1].text, " c");
}

TEST(TaskPrompts, ComeFromCompressedFilesToo) {
  const std::string line = request_row(0, 0, {0, 1}, {" a", " b"}).dump() + "\n";
  DataFolder data;
  data.add_text("requests/arc_easy/rc_5shot.jsonl.gz", testing::gzip(line), 1);
  data.add_text("requests/arc_easy/mc_5shot.jsonl.zst", testing::zstd(line), 1);
  EXPECT_EQ(TaskFolder(data.root()).load("arc_easy_rc_5shot").requests.size(), 2U);
  EXPECT_EQ(TaskFolder(data.root()).load("arc_easy_mc_5shot").requests.size(), 2U);
}

TEST(TaskPrompts, TakeLabelsThatNameNoContinuation) {
  DataFolder data;
  data.add("requests/squad/bpb_5shot.jsonl", {request_row(0, "x", {0}, {" x"}), request_row(1, {"y", "z"}, {0}, {" y"}),
                                              request_row(2, nullptr, {0}, {" z"})});
  const Task task = TaskFolder(data.root()).load("squad_bpb_5shot");
  ASSERT_EQ(task.requests.size(), 3U);
  for (const TaskRequest& request : task.requests) EXPECT_EQ(request.label, 0);
}

// ---- Tokens ----

TEST(TaskRequests, AreTokenizedApartAndShared) {
  const Tokenizer tokenizer = Tokenizer::from_json(testing::small_tokenizer_json().dump(), "small.json");
  Task task{.name = "made", .metric = TaskMetric::bpb, .requests = {}};
  task.requests = {{0, 0, 1, "aab", " lower"}, {0, 1, 1, "aab", " \u00e9"}, {7, 0, 0, "b", "\u00e9a"}};
  for (const int threads : {1, 3}) {
    const TokenizedTask tokenized = tokenize_task(task, tokenizer, threads);
    ASSERT_EQ(tokenized.requests.size(), 3U);
    EXPECT_EQ(tokenized.name, "made");
    EXPECT_EQ(tokenized.metric, TaskMetric::bpb);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto context = tokenized.part(tokenized.requests[i].context),
                 text = tokenized.part(tokenized.requests[i].text);
      EXPECT_EQ(std::vector(context.begin(), context.end()), tokenizer.encode(task.requests[i].context));
      EXPECT_EQ(std::vector(text.begin(), text.end()), tokenizer.encode(task.requests[i].text));
    }
    EXPECT_EQ(tokenized.requests[0].context.begin, tokenized.requests[1].context.begin);
    const TextLengths &second = tokenized.requests[1].lengths, &third = tokenized.requests[2].lengths;
    EXPECT_EQ(std::vector({second.characters, second.bytes, second.later_characters, second.later_bytes}),
              (std::vector<std::int64_t>{2, 3, 1, 2}));
    EXPECT_EQ(std::vector({third.characters, third.bytes, third.later_characters, third.later_bytes}),
              (std::vector<std::int64_t>{2, 3, 1, 1}));
    EXPECT_EQ(tokenized.requests[2].document, 7);
  }
}

TEST(TaskRequests, KeepTheEndThatFits) {
  const std::vector<std::uint32_t> ids = {1, 2, 3, 4, 5, 6};
  const ScoreRequest request{std::span(ids).first(4), std::span(ids).last(2)};
  const auto tokens_of = [](const RequestWindow& query) {
    std::vector<std::uint32_t> tokens;
    for (std::int64_t i = 0; i < query.length(); ++i) tokens.push_back(query.token(i));
    return tokens;
  };
  for (const auto& [length, context, tokens] :
       std::vector<std::tuple<std::int64_t, std::int64_t, std::vector<std::uint32_t>>>{
           {9, 4, {1, 2, 3, 4, 5}}, {3, 2, {3, 4, 5}}, {2, 1, {4, 5}}}) {
    const RequestWindow query(request, length);
    EXPECT_EQ(tokens_of(query), tokens);
    EXPECT_EQ(query.context_length(), context);
    EXPECT_EQ(query.is_cut(), length < 5);
  }
}

TEST(TaskRequests, NeedTokens) {
  json document = testing::small_tokenizer_json();
  document["model"]["vocab"].erase("x");  // a byte without a token is left out
  document["model"]["vocab"]["xyz"] = 'x';
  const Tokenizer tokenizer = Tokenizer::from_json(document.dump(), "small.json");
  const Task task{.name = "made", .metric = TaskMetric::acc, .requests = {{4, 0, 0, "a", "xx"}}};
  expect_error<DataError>([&] { tokenize_task(task, tokenizer, 1); },
                          {"task made, document 4", "the continuation gives none"});
}

TEST(Characters, AreThoseOfPython) {
  EXPECT_EQ(count_characters(""), 0);
  EXPECT_EQ(count_characters("a\u00e9\u3042\U0001F600"), 4);
  EXPECT_EQ(first_character_bytes("\u3042a"), 3U);
  EXPECT_EQ(first_character_bytes(""), 0U);
  EXPECT_EQ(lower("A\u00c9\u0416x1"), "a\u00e9\u0436x1");
  EXPECT_EQ(capitalize("hELLO World"), "Hello world");
  EXPECT_EQ(capitalize("\u01c6X"), "\u01c5x");  // title case, not upper case
  EXPECT_EQ(capitalize(""), "");
}

}  // namespace
}  // namespace norma
