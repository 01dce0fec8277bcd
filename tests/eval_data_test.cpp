// Evaluation data that is refused, and what the errors say.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "norma/eval/tasks.h"

#include "support/eval_data_folder.h"

namespace norma {
namespace {

using nlohmann::json;
using testing::DataFolder;
using testing::expect_error;
using testing::request_row;
using Texts = std::vector<std::string>;

void expect_data_error(const DataFolder& data, const std::string& task, const Texts& parts) {
  expect_error<DataError>([&] { TaskFolder(data.root()).load(task); }, parts);
}

constexpr const char* kRequests = "requests/arc_easy/rc_5shot.jsonl";

TEST(EvalData, SaysHowToGetIt) {
  DataFolder data;
  expect_data_error(data, "boolq", {"index.json does not exist", "scripts/fetch_eval_data.sh"});
  data.add("tables/sciq/none/validation.jsonl", {});
  expect_data_error(data, "boolq", {"must list tables/boolq/none/validation", "scripts/fetch_eval_data.sh"});
  expect_data_error(data, "sciq", {"task sciq must have at least one request"});
  fs::remove(data.root() / "tables/sciq/none/validation.jsonl");
  expect_data_error(data, "sciq", {"tables/sciq/none/validation.jsonl must be a file", "fetch_eval_data"});
}

TEST(EvalData, RefusesPathsOutsideOfTheFolder) {
  for (const char* path : {"../x.jsonl", "/etc/x.jsonl", "tables/../../x.jsonl", "tables//x.jsonl", "", "./x.jsonl"}) {
    DataFolder data;
    data.list(path, "", 0);
    expect_data_error(data, "boolq", {"index.json", "inside of the folder", path});
  }
  DataFolder other;
  other.list("tables/x.arrow", "", 0);
  expect_data_error(other, "boolq", {"must end in .jsonl", "tables/x.arrow"});
}

TEST(EvalData, RefusesAMalformedIndex) {
  const json good = {{"path", "a.jsonl"}, {"bytes", 1}, {"lines", 1}, {"checksum", "0"}};
  const auto changed = [&](const char* key, const json& value) {
    json entry = good;
    entry[key] = value;
    return json{{"format", 1}, {"files", {entry}}};
  };
  const std::vector<std::pair<json, Texts>> cases = {
      {json::array(), {"must be an object"}},
      {{{"format", 2}, {"files", json::array()}}, {"'format' must be 1; got 2"}},
      {{{"format", 1}}, {"'files' is missing"}},
      {{{"format", 1}, {"files", "x"}}, {"'files' must be a list"}},
      {{{"format", 1}, {"files", {1}}}, {"'files[0]' must be an object"}},
      {{{"format", 1}, {"files", {good, good}}}, {"'files[1].path' names 'a' a second time"}},
      {changed("path", 3), {"'files[0].path' must be a string"}},
      {changed("bytes", -1), {"'files[0].bytes'"}},
      {changed("bytes", 1e30), {"'files[0].bytes'"}},
      {changed("lines", 1e18), {"'files[0].lines'"}},
      {changed("checksum", nullptr), {"'files[0].checksum' must be a string"}}};
  for (const auto& [index, parts] : cases) {
    DataFolder data;
    data.write_index(index);
    expect_data_error(data, "boolq", parts);
  }
}

TEST(EvalData, RefusesFilesThatTheIndexDoesNotDescribe) {
  const json row = {{"question", "q"}, {"passage", "p"}, {"answer", true}};
  const auto with = [&](const char* key, const json& value, const Texts& parts) {
    DataFolder data;
    data.add("tables/boolq/none/validation.jsonl", {row, row});
    EXPECT_EQ(TaskFolder(data.root()).load("boolq").requests.size(), 4U);
    data.entry(0)[key] = value;
    data.write_entries();
    expect_data_error(data, "boolq", parts);
  };
  with("checksum", std::string(32, '0'), {"validation.jsonl", "checksum", "fetch_eval_data"});
  with("bytes", 3, {"3 bytes"});
  with("lines", 3, {"must have 3 lines", "got 2 lines"});
  with("lines", 1, {"must have 1 lines", "got more"});
}

TEST(EvalData, NamesTheLineThatIsWrong) {
  const std::string good = json{{"question", "q"}, {"passage", "p"}, {"answer", true}}.dump() + "\n";
  const std::vector<std::pair<std::string, Texts>> cases = {
      {"{\"question\":", {"validation.jsonl:2", "JSON"}},
      {"[1, 2]", {"validation.jsonl:2", "must be an object; got array"}},
      {R"({"question": "q", "passage": "p"})", {"validation.jsonl:2", "'answer' is missing"}},
      {R"({"question": "q", "passage": 3, "answer": true})", {":2", "'passage' must be a string; got 3"}},
      {R"({"question": "q", "passage": "p", "answer": 1})", {":2", "'answer' must be true or false; got 1"}},
      {R"({"question": "q", "question": "q", "passage": "p", "answer": true})", {":2", "twice"}},
      {"{\"question\": \"\xff\", \"passage\": \"p\", \"answer\": true}", {":2", "JSON"}},
      {std::string(40, '['), {":2", "deep"}},
      {"{\"question\": \"" + std::string(5 << 20, 'x') + "\"}", {":2", "at most"}}};
  for (const auto& [line, parts] : cases) {
    DataFolder data;
    data.add_text("tables/boolq/none/validation.jsonl", good + line + "\n", 2);
    expect_data_error(data, "boolq", parts);
  }
}

TEST(EvalData, RefusesQuestionsThatCannotBeJudged) {
  const auto refused = [](const std::string& task, const std::string& table, const json& row, const Texts& parts) {
    DataFolder data;
    data.add("tables/" + table + "/validation.jsonl", {row});
    expect_data_error(data, task, parts);
  };
  const json question = {{"question", "q"}, {"choices", {{"text", {"a", "b"}}}}, {"answerKey", "C"}};
  refused("arc_easy", "ai2_arc/ARC-Easy", question, {":1", "one of 2 choices, counted from 0; got 2"});
  refused("arc_easy_ppl_correct", "ai2_arc/ARC-Easy", question, {":1", "'answerKey'"});
  json odd = question;
  odd["answerKey"] = "F";
  refused("arc_easy", "ai2_arc/ARC-Easy", odd, {":1", "A to E", "'F'"});
  odd["choices"] = {"a", "b"};
  refused("arc_easy", "ai2_arc/ARC-Easy", odd, {":1", "'choices' must be an object; got array"});
  refused("arc_easy", "ai2_arc/ARC-Easy", {{"question", "q"}, {"choices", {{"text", {"a", 2}}}}, {"answerKey", "A"}},
          {":1", "'choices.text' must be a list of strings; it holds 2"});
  refused("piqa", "piqa/plain_text", {{"goal", "g"}, {"sol1", "a"}, {"sol2", ""}, {"label", 0}},
          {":1", "at least 2 characters"});
  refused("piqa", "piqa/plain_text", {{"goal", "g"}, {"sol1", "a"}, {"sol2", "b"}, {"label", -1}}, {":1", "'label'"});
  refused("openbook_qa", "openbookqa/main",
          {{"question_stem", ""}, {"choices", {{"text", {"a", "b"}}}}, {"answerKey", "A"}},
          {":1", "must not be empty"});
  refused("social_iqa", "social_i_qa/none",
          {{"context", "c"}, {"question", "q"}, {"answerA", "a"}, {"answerB", "b"}, {"answerC", "c"}, {"label", "x"}},
          {":1", "'label' must be a string of digits; got 'x'"});
}

TEST(EvalData, RefusesRequestsThatCannotBeJudged) {
  const auto refused = [](const std::string& task, const std::vector<json>& rows, const Texts& parts) {
    DataFolder data;
    data.add(kRequests, rows);
    expect_data_error(data, task, parts);
  };
  const json good = request_row(0, 0, {0, 1}, {" a", " b"});
  json odd = good;
  odd["request_type"] = "generate_until";
  refused("arc_easy_rc_5shot", {good, odd}, {"rc_5shot.jsonl:2", "'request_type'", "'generate_until'"});
  refused("arc_easy_rc_5shot", {request_row(0, 0, {0}, {" a", " b"})}, {":1", "equally long"});
  refused("arc_easy_rc_5shot", {request_row(0, "A", {0, 1}, {" a", " b"})}, {":1", "'label' must be a whole number"});
  refused("arc_easy_rc_5shot_bpb", {request_row(0, true, {0, 1}, {" a", " b"})}, {":1", "'label'", "boolean"});
  refused("arc_easy_rc_5shot", {request_row(0, 2, {0, 1}, {" a", " b"})}, {"document 0", "label names, 2"});
  refused("arc_easy_rc_5shot", {request_row(0, 0, {0, 2, 1}, {" a", " b", " c"})}, {"document 0", "continuation 1"});
  refused("arc_easy_rc_5shot", {good, request_row(0, 1, {2}, {" c"})}, {"document 0", "one label"});
  refused("arc_easy_rc_5shot", {request_row(0, 0, {0}, {" a"})}, {"document 0", "two continuations"});
  refused("arc_easy_rc_5shot", {good, request_row(1, 0, {0, 1}, {" a", " b"}), good}, {"document 0", "comes again"});
  refused("arc_easy_rc_5shot", {good, good}, {"document 0", "continuation 2", "once"});
  refused("arc_easy_rc_5shot", {request_row(-1, 0, {0}, {" a"})}, {":1", "'doc_id'"});
  refused("arc_easy_rc_5shot", {request_row(0, 0, {-1}, {" a"})}, {":1", "'idx'"});
  refused("arc_easy_rc_5shot", {request_row(10'000'001, 0, {0}, {" a"})}, {":1", "'doc_id'", "10000000"});
  refused("arc_easy_rc_5shot", {request_row(0, 0, {10'000'001}, {" a"})}, {":1", "'idx'", "10000000"});
  const std::size_t many = 1000;  // each would get its own copy of the context
  json long_one = request_row(0, 0, std::vector<int>(many, 0), Texts(many, " a"));
  long_one["context"] = std::string(1 << 20, 'c');
  refused("arc_easy_rc_5shot", {long_one}, {":1", "256.0 MiB", "1000 of 1.0 MiB"});
}

}  // namespace
}  // namespace norma
