// JSON of foreign origin: parsing, typed access, printing.
#include "norma/base/json.h"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "norma/base/error.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma {

namespace {

using ::norma::testing::contains;
using ::norma::testing::error_text;
using ::norma::testing::TemporaryFolder;

TEST(JsonText, KeepsOrderAndValues) {
  const Json json = parse_json(R"({"z": [1, -2, 2.5, true, null, "\u00e9"], "a": {"b": {}}, "c": []})", "t");
  EXPECT_EQ(json.dump(), R"({"z":[1,-2,2.5,true,null,"é"],"a":{"b":{}},"c":[]})");
  EXPECT_EQ(parse_json("3", "t"), 3);
}

TEST(JsonText, ErrorsNamePlaceLineAndReason) {
  const auto text_of = [](std::string_view text) {
    return error_text<DataError>([&] { parse_json(text, "tokenizer.json", 4); });
  };
  EXPECT_TRUE(contains(text_of("{\n\"a\": 1,\n\"a\": 2}"), "line 3: the key \"a\" occurs twice"));
  EXPECT_TRUE(contains(text_of("{\"a\": 1,\n}"), "[tokenizer.json] not acceptable JSON at line 2: syntax"));
  EXPECT_TRUE(contains(text_of("[1]\n[2]"), "line 2"));
  EXPECT_TRUE(contains(text_of(""), "line 1"));
  EXPECT_TRUE(contains(text_of("[1, 2"), "line 1"));
  EXPECT_TRUE(contains(text_of("[[[[\n[1]]]]]"), "line 2: nested more than 4 levels"));
  EXPECT_TRUE(contains(text_of("[\"\xff\"]"), "UTF-8"));
  EXPECT_TRUE(contains(text_of("[1e999]"), "line 1"));
  EXPECT_NO_THROW(parse_json("[[[[1]]], {\"a\": {\"a\": 1}}]", "t", 4));
}

TEST(JsonText, SurvivesAMillionBrackets) {
  EXPECT_THROW(parse_json(std::string(1000000, '['), "t"), DataError);
  EXPECT_THROW(parse_json(std::string(1000000, '['), "t", 1 << 30), DataError);
}

TEST(JsonText, ReadsManyKeysInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += cat(i ? "," : "", '"', i, "\":", i);
  EXPECT_EQ(parse_json(text + "}", "t").size(), 200000u);  // a parser in quadratic time would not end
}

TEST(JsonText, ReadsFiles) {
  const TemporaryFolder folder;
  write_file_atomic(folder.path() / "a.json", "{\"a\": 1}");
  EXPECT_EQ(read_json(folder.path() / "a.json", 100)["a"], 1);
  EXPECT_THROW(read_json(folder.path() / "a.json", 3), DataError);
}

TEST(JsonText, ErrorsAreOfTheKindOfTheirOwner) {
  EXPECT_THROW(parse_json("{", "manifest.json", 8, ExitCode::checkpoint), CheckpointError);
  EXPECT_THROW(JsonObject(Json(3), "manifest.json", ExitCode::checkpoint), CheckpointError);
  EXPECT_THROW(JsonObject(Json(3), "config.json"), DataError);
}

TEST(JsonText, IsPrintedEvenWhereItIsNoUtf8) {
  EXPECT_EQ(to_text({{"a", "x\xff"}}), "{\"a\":\"x\uFFFD\"}");
  EXPECT_EQ(to_text({{"a", 1}}, 2), "{\n  \"a\": 1\n}");
}

class JsonAccess : public ::testing::Test {
 protected:
  Json json = parse_json(R"({"text": "a", "flag": true, "count": 7, "large": 18446744073709551615, "half": 0.5,
                             "nothing": null, "numbers": [1, 2.5], "counts": [1, 2], "texts": ["x", "y"],
                             "inner": {"list": [{"size": 3}, {"size": -1}]}})",
                         "t");
  JsonObject object{json, "[test] t.json"};

  template <class Access>
  std::string error(const Access& access) {
    return error_text<DataError>([&] { access(object); });
  }
};

TEST_F(JsonAccess, GivesMembersByType) {
  EXPECT_EQ(object.text("text"), "a");
  EXPECT_TRUE(object.flag("flag"));
  EXPECT_EQ(object.integer("count", {1, 7}), 7);
  EXPECT_EQ(object.number("half"), 0.5);
  EXPECT_EQ(object.number("count"), 7.0);
  EXPECT_EQ(object.choice("text", {"b", "a"}), "a");
  EXPECT_EQ(object.numbers("numbers"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(object.integers("counts"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(object.texts("texts"), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(object.object("inner").objects("list")[0].integer("size"), 3);
}

TEST_F(JsonAccess, OptionalMembersMayBeMissingOrNull) {
  for (const char* key : {"nothing", "absent"}) {
    EXPECT_FALSE(object.has(key));
    EXPECT_FALSE(object.find_text(key) || object.find_flag(key) || object.find_integer(key) || object.find_number(key));
    EXPECT_FALSE(object.find_object(key));
  }
  EXPECT_EQ(object.find_integer("count"), 7);
  EXPECT_TRUE(contains(error([](const JsonObject& o) { o.find_integer("text"); }), "got \"a\""));
}

TEST_F(JsonAccess, ErrorsSayWhereAndWhatIsAllowed) {
  using O = const JsonObject&;
  EXPECT_EQ(error([](O o) { o.text("absent"); }), "[test] t.json: 'absent' is missing");
  EXPECT_EQ(error([](O o) { o.text("nothing"); }), "[test] t.json: 'nothing' must be a string; got null");
  EXPECT_EQ(error([](O o) {
              o.integer("count", {8, 9});
            }),
            "[test] t.json: 'count' must be a whole number from 8 to 9; got 7");
  EXPECT_EQ(error([](O o) { o.integer("count", {1, 1}); }), "[test] t.json: 'count' must be 1; got 7");
  EXPECT_TRUE(contains(error([](O o) { o.integer("large"); }), "from 0; got 18446744073709551615"));
  EXPECT_TRUE(contains(error([](O o) { o.integer("half"); }), "got 0.5"));
  EXPECT_TRUE(contains(error([](O o) { o.list("inner"); }), "must be a list; got object"));
  EXPECT_TRUE(contains(error([](O o) { o.integers("numbers"); }), "it holds 2.5"));
  EXPECT_EQ(error([](O o) {
              o.choice("text", {"ab", "c"});
            }),
            "[test] t.json: 'text' must be one of ab, c; got 'a', did you mean 'ab'?");
  EXPECT_TRUE(contains(error([](O o) { o.object("inner").objects("list")[1].integer("size"); }),
                       "t.json: 'inner.list[1].size' must be a whole number from 0; got -1"));
  EXPECT_TRUE(contains(error([](O o) { o.object("inner").fail("is odd"); }), "t.json: 'inner' is odd"));
  EXPECT_TRUE(contains(error([](O o) { o.object("inner").refuse_unknown({"lists"}); }),
                       "'inner' has the unknown key 'list', did you mean 'lists'?"));
}

}  // namespace
}  // namespace norma
