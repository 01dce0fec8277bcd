// The components of a tokenizer.json one by one, and wrong files.
#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/data/tokenizer.h"

#include "../src/data/pretokenizer.h"
#include "../src/data/unicode.h"
#include "support/fixtures.h"
#include "support/small_tokenizer.h"

namespace norma {
namespace {

using nlohmann::json;
using testing::random_text;
using testing::small_tokenizer_json;
using Ids = std::vector<std::uint32_t>;

Tokenizer make(const json& document) {
  return Tokenizer::from_json(document.dump(), "small.json");
}

std::string error_of(const std::string& text) {
  try {
    Tokenizer::from_json(text, "small.json");
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> words_of(const PreTokenizer& splitter, std::string_view text) {
  std::vector<std::string> words;
  PreTokenizer::Work work;
  splitter.for_each_word(text, work, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

json added(std::uint32_t id, const std::string& content, const json& flags) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", false}};
  token.update(flags);
  return token;
}

TEST(AddedTokens, FollowTheirFlags) {
  json document = small_tokenizer_json();
  const std::uint32_t next = 257 + testing::kSmallMerges.size();
  document["added_tokens"].push_back(added(next, "[A]", {{"lstrip", true}, {"rstrip", true}}));
  document["added_tokens"].push_back(added(next + 1, "[A][A]", json::object()));
  document["added_tokens"].push_back(added(next + 2, "key", {{"single_word", true}}));
  document["added_tokens"].push_back(added(next + 3, "é!", {{"normalized", true}}));
  document["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  const Tokenizer tokenizer = make(document);
  EXPECT_EQ(tokenizer.encode("x [A]\u2003\n y"), (Ids{'x', next, 'y'}));
  EXPECT_EQ(tokenizer.encode("[A][A]"), Ids{next + 1});
  EXPECT_EQ(tokenizer.encode("key,key"), (Ids{next + 2, ',', next + 2}));
  EXPECT_EQ(tokenizer.encode("keys"), (Ids{'k', 'e', 'y', 's'}));
  EXPECT_EQ(tokenizer.encode("key\u0897").size(), 3 + 3U);  // a mark since Unicode 16
  EXPECT_EQ(tokenizer.encode("e\u0301!"), Ids{next + 3});
  EXPECT_EQ(tokenizer.encode("a<|endoftext|>a"), (Ids{'a', *tokenizer.eos_id(), 'a'}));
  const Ids ids{'a', *tokenizer.eos_id(), next};
  EXPECT_EQ(tokenizer.decode(ids), "a<|endoftext|>[A]");
  EXPECT_EQ(tokenizer.decode(ids, true), "a[A]");
  EXPECT_EQ(tokenizer.vocab_size(), next + 4);
}

TEST(AddedTokens, HaveTheIdsThatTheReferenceGives) {
  const std::uint32_t next = 257 + testing::kSmallMerges.size();
  json document = small_tokenizer_json();
  json& list = document["added_tokens"];
  list.push_back(added(next, "[A]", json::object()));
  list.push_back(added('w', "w", json::object()));
  list.push_back(added(next + 1, "[B]", json::object()));
  EXPECT_EQ(make(document).encode("[B]w[A]"), (Ids{next + 1, 'w', next}));
  list.push_back(added(next + 3, "[C]", json::object()));
  EXPECT_NE(error_of(document.dump()).find("'added_tokens[4]' gives '[C]' the id " + std::to_string(next + 3)),
            std::string::npos);
  std::swap(list[1]["content"], list[3]["content"]);
  std::swap(list[1]["id"], list[3]["id"]);
  EXPECT_NE(error_of(document.dump()).find("order of the list"), std::string::npos);
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  json document = small_tokenizer_json();
  document["model"]["vocab"]["Ġxyz"] = 400;
  document["added_tokens"] = json::array();
  EXPECT_EQ(make(document).encode(" xyz").size(), 4U);
  document["model"]["ignore_merges"] = true;
  EXPECT_EQ(make(document).encode(" xyz"), Ids{400});
}

TEST(Bpe, LeavesOutBytesWithoutAToken) {
  json document = small_tokenizer_json({});
  document["model"]["vocab"].erase("q");
  document["added_tokens"] = json::array();
  EXPECT_EQ(make(document).encode("aqb"), (Ids{'a', 'b'}));
}

PreTokenizer pre_tokenizer(const Json& component) {
  return PreTokenizer(JsonObject(component, "t.json"));
}

TEST(PreTokenizer, SplitsByEveryBehavior) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"Removed", {"the", "final", "countdown"}},
      {"Isolated", {"the", "-", "final", "-", "-", "countdown"}},
      {"Contiguous", {"the", "-", "final", "--", "countdown"}},
      {"MergedWithPrevious", {"the-", "final-", "-", "countdown"}},
      {"MergedWithNext", {"the", "-final", "-", "-countdown"}}};
  for (const auto& [behavior, words] : cases) {
    const Json split = {{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", false}};
    EXPECT_EQ(words_of(pre_tokenizer(split), "the-final--countdown"), words) << behavior;
  }
}

TEST(PreTokenizer, ChainsDigitsAndByteLevel) {
  Json steps = {{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Digits"}, {"individual_digits", true}},
                  {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}}}};
  const std::vector<std::string> words = words_of(pre_tokenizer(steps), "a12٣ b");
  EXPECT_EQ(words, (std::vector<std::string>{" a", " 1", " 2", " ٣", " b"}));
  steps["pretokenizers"][0]["individual_digits"] = false;
  EXPECT_EQ(words_of(pre_tokenizer(steps), "a12٣")[1], " 12٣");
  EXPECT_EQ(words_of(PreTokenizer(std::nullopt), "a b"), std::vector<std::string>{"a b"});
}

TEST(PreTokenizer, ScannersEqualTheirExpressions) {
  std::vector<std::string> texts;
  for (const char* name : {"dolma2", "neox"}) {
    const fs::path file = testing::fixture_root() / "tokenizer" / (std::string(name) + ".json");
    if (!fs::exists(file)) continue;
    for (const json& entry : json::parse(read_file(file, 64 << 20))) texts.push_back(entry.at("text"));
  }
  std::mt19937 random(5);
  for (int i = 0; i < 2000; ++i) texts.push_back(random_text(random, 60));
  for (std::string_view pattern : {kGpt2Pattern, kDolma2Pattern}) {
    const Json split = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    const JsonObject component(split, "t.json");
    const PreTokenizer fast(component), general(component, true);
    for (const std::string& text : texts) ASSERT_EQ(words_of(fast, text), words_of(general, text)) << text;
  }
}

PreTokenizer matches_of(const std::string& pattern) {
  const Json split = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Removed"}, {"invert", true}};
  return pre_tokenizer(split);
}

// The matches are those of Hugging Face tokenizers 0.22.2.
TEST(PreTokenizer, ReadsExpressionsAsOnigurumaDoes) {
  struct Case {
    const char *pattern, *text;
    std::vector<std::string> matches;
  };
  const std::vector<Case> cases = {{"a?+a", "aa", {"aa"}},
                                   {"a++a|b", "aab", {"b"}},
                                   {"a{1,3}?", "aaa", {"a", "a", "a"}},
                                   {"a{2}|]|}", "aaa]}", {"aa", "]", "}"}},
                                   {R"(\s+$)", "a \n", {" \n"}},
                                   {R"(\u0041\x{42}\x43)", "ABC", {"ABC"}},
                                   {R"(\v)", "\v\n", {"\v"}},
                                   {"(?i:k|s)", "sSſkK\u212A", {"s", "S", "ſ", "k", "K", "\u212A"}},
                                   {"'(?i:[sdmt]|ll|ve|re)", "'S'LL'ſ", {"'S", "'LL", "'ſ"}},
                                   {"(?i:[^a-c])", "aBd", {"d"}},
                                   {"(?i:a)b|(?-i:C)", "AbABCc", {"Ab", "C"}},
                                   {R"(\w+)", "a²_\u24B6-", {"a²_\u24B6"}},
                                   {R"([\w]+)", "a²_\u24B6-", {"a", "_\u24B6"}},
                                   {R"([^\W\d_]+|\P{^Nd})", "ab_12", {"ab", "1", "2"}},
                                   {R"(\A.|.\z)", "abc", {"a", "c"}},
                                   {R"(\`\'\<\>\ \#)", "`'<> #", {"`'<> #"}},
                                   {"(?<=a|bc)x(?!y)", "axbcxxaxy", {"x", "x"}}};
  for (const Case& c : cases) EXPECT_EQ(words_of(matches_of(c.pattern), c.text), c.matches) << c.pattern;
}

// The last characters of each kind came with Unicode 16, and the characters after them with Unicode 17.
TEST(PreTokenizer, KnowsTheCharactersThatTheReferenceKnows) {
  const auto matches = [](const char* pattern, const std::string& character) {
    return words_of(matches_of(pattern), character).size() == 1;
  };
  const std::vector<std::pair<const char*, const char*>> known = {
      {R"(\p{Lu})", "\u1C89"},     {R"(\p{Ll})", "\u1C8A"},    {R"(\p{Lo})", "\U000105C0"},
      {R"(\p{M})", "\u0897"},      {R"(\d)", "\U00010D40"},    {R"(\w)", "\u0897"},
      {R"(\p{So})", "\U0001CC00"}, {R"(\p{P})", "\U00010D6E"}, {R"([\p{Lm}])", "\U00010D4E"}};
  for (const auto& [pattern, character] : known) EXPECT_TRUE(matches(pattern, character)) << pattern;
  EXPECT_TRUE(matches(R"(\p{Cn})", "\uA7CE"));
  EXPECT_FALSE(matches(R"(\p{L}|\w|\d)", "\uA7CE"));
  EXPECT_FALSE(matches(R"(\p{N})", "\U00011DE0"));
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};  // digits of another Unicode version, as there
  EXPECT_EQ(words_of(pre_tokenizer(digits), "a\U00011DE0").size(), 2U);
  EXPECT_EQ(words_of(pre_tokenizer(digits), "a\uA7CE").size(), 1U);
}

TEST(PreTokenizer, ReadsTheExpressionsOfKnownTokenizers) {
  const std::string suffix = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  const std::string rest = R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string o200k = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" + suffix +
                            R"(?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" +
                            suffix + "?" + rest;
  const std::string cl100k =
      R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
  const std::string qwen =
      suffix + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string deepseek =
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)" +
      rest;
  const std::string text = "HelloWorld's don'T 12345 !?/\n\n  x";
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of(matches_of(o200k), text),
            (Words{"Hello", "World's", " don'T", " ", "123", "45", " !?/\n\n", " ", " x"}));
  EXPECT_EQ(words_of(matches_of(cl100k), text),
            (Words{"HelloWorld", "'s", " don", "'T", " ", "123", "45", " !?/\n\n", " ", " x"}));
  EXPECT_EQ(words_of(matches_of(qwen), text),
            (Words{"HelloWorld", "'s", " don", "'T", " ", "1", "2", "3", "4", "5", " !?/\n\n", " ", " x"}));
  EXPECT_EQ(words_of(matches_of(deepseek), text),
            (Words{"HelloWorld", "'s", " don", "'T", " ", "123", "45", " !?/\n\n", " ", " x"}));
}

TEST(PreTokenizer, StopsAnExpressionThatNeverEnds) {
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a+)+[bc]"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const PreTokenizer splitter = pre_tokenizer(split);
  EXPECT_THROW(words_of(splitter, std::string(40, 'a')), DataError);
}

TEST(Nfc, ComposesReordersAndLeavesAlone) {
  const std::vector<std::pair<std::string, std::string>> cases = {{"e\u0301", "\u00E9"},
                                                                  {"\u00E9\u0323", "\u1EB9\u0301"},
                                                                  {"\u1112\u1161\u11AB", "\uD55C"},
                                                                  {"a\u0301\u0323", "\u1EA1\u0301"},
                                                                  {"\u212B", "\u00C5"},
                                                                  {"\u0344", "\u0308\u0301"},
                                                                  {"\u0958", "\u0915\u093C"},
                                                                  {"x\u0301\u0301", "x\u0301\u0301"},
                                                                  {"\uAC00\u11A8", "\uAC01"}};
  for (const auto& [given, expected] : cases) {
    std::string out;
    if (!to_nfc(given, out)) out = given;
    EXPECT_EQ(out, expected);
  }
  std::string untouched = "as it was";
  EXPECT_FALSE(to_nfc("plain – “text” é 中", untouched));
  EXPECT_EQ(untouched, "as it was");
}

// ---- Wrong files: every error is a DataError that names the file and the component.

TEST(TokenizerFile, NamesWhatIsWrong) {
  struct Wrong {
    const char* pointer;  // what is replaced
    json value;
    std::vector<std::string> told;
  };
  const std::vector<Wrong> cases = {
      {"/pre_tokenizer", {{"type", "Metaspace"}}, {"pre_tokenizer", "Metaspace", "ByteLevel, Split, Digits"}},
      {"/normalizer", {{"type", "NFKC"}}, {"normalizer", "NFKC", "NFC, Sequence"}},
      {"/decoder", {{"type", "WordPiece"}}, {"decoder", "WordPiece", "ByteLevel"}},
      {"/decoder", nullptr, {"decoder", "object"}},
      {"/post_processor", {{"type", "BertProcessing"}}, {"post_processor", "BertProcessing"}},
      {"/model/type", "Unigram", {"model", "Unigram", "BPE"}},
      {"/model/byte_fallback", true, {"model.byte_fallback", "not supported"}},
      {"/model/unk_token", "<unk>", {"model.unk_token", "not supported"}},
      {"/model/dropout", 0.1, {"model.dropout", "not supported"}},
      {"/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix", "not supported"}},
      {"/model/ignore_merges", "yes", {"model.ignore_merges", "true or false"}},
      {"/model/vocab", json::array(), {"model.vocab", "object"}},
      {"/model/vocab/a", 1'000'000, {"model.vocab", "'a'", "1000000"}},
      {"/model/vocab/a", -1, {"model.vocab", "'a'", "-1"}},
      {"/model/vocab/a", 98, {"model.vocab", "98 twice"}},
      {"/model/merges", nullptr, {"model.merges", "list"}},
      {"/model/merges/0", json::array({"l", "q"}), {"model.merges", "entry 0", "'lq'"}},
      {"/model/merges", json::array({"l  o"}), {"model.merges", "entry 0", "one space"}},
      {"/model/merges/3", 7, {"model.merges", "entry 3", "number"}},
      {"/added_tokens/0/id", 5, {"added_tokens[0]", "which the vocab gives to"}},
      {"/added_tokens/0/content", "a", {"added_tokens[0]", "the vocab gives it 97"}},
      {"/added_tokens/0/content", 1, {"added_tokens[0].content", "string"}},
      {"/added_tokens/0/special", 1, {"added_tokens[0].special", "true or false"}},
      {"/added_tokens/1", added(273, "<|endoftext|>", json::object()), {"added_tokens[1]", "again"}},
      {"/added_tokens/0/normalized", nullptr, {"added_tokens[0].normalized", "true or false"}},
      {"/added_tokens/0", {{"id", 272}, {"content", "x"}}, {"added_tokens[0].special", "missing"}},
      {"/added_tokens", nullptr, {"added_tokens", "list"}},
      {"/version", "2.0", {"version", "1.0", "'2.0'"}},
      {"/version", nullptr, {"version", "string", "null"}},
      {"/truncation", {{"max_length", 8}}, {"truncation", "not supported", "null"}},
      {"/padding", {{"strategy", "BatchLongest"}}, {"padding", "not supported", "null"}},
      {"/pre_tokenizer", {{"type", "ByteLevel"}}, {"pre_tokenizer.add_prefix_space", "missing"}},
      {"/pre_tokenizer/trim_offsets", nullptr, {"pre_tokenizer.trim_offsets", "null"}},
      {"/pre_tokenizer/use_regex", nullptr, {"pre_tokenizer.use_regex", "null"}},
      {"/pre_tokenizer", {{"type", "Digits"}}, {"pre_tokenizer.individual_digits", "missing"}},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Removed"}},
       {"pre_tokenizer.invert", "missing"}},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"String", "a"}, {"Regex", "a"}}}, {"behavior", "Removed"}, {"invert", false}},
       {"pre_tokenizer.pattern", "one"}},
      {"/decoder", {{"type", "ByteLevel"}}, {"decoder.add_prefix_space", "missing"}},
      {"/post_processor", {{"type", "ByteLevel"}}, {"post_processor.add_prefix_space", "missing"}},
      {"/post_processor", {{"type", "TemplateProcessing"}}, {"post_processor.single", "missing"}},
      {"/model/merges/1", "l o", {"model.merges", "entry 1", "alike"}},
      {"", json::array(), {"must be an object"}},
      {"", {{"model", {{"type", "BPE"}}}}, {"model.vocab", "missing"}}};
  for (const Wrong& wrong : cases) {
    json document = small_tokenizer_json();
    document[json::json_pointer(wrong.pointer)] = wrong.value;
    const std::string error = error_of(document.dump());
    EXPECT_NE(error.find("small.json"), std::string::npos) << wrong.pointer << ": " << error;
    for (const std::string& part : wrong.told) {
      EXPECT_NE(error.find(part), std::string::npos) << wrong.pointer << ": " << error;
    }
  }
}

TEST(TokenizerFile, RefusesPatternsItWouldReadDifferently) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"(", "not closed"},   {"a)", "not opened"},     {"[a", "not closed"},    {"*a", "nothing to repeat"},
      {"\\p{Nonsense}", ""}, {"\\p{Han}", "category"}, {"\\pL", "\\pL"},        {"\\h+", "'\\h'"},
      {"[a[b]]", "nests"},   {"[a&&b]", "&&"},         {"[[:alpha:]]", "[:"},   {"\\bx", "'\\b'"},
      {"[]a]", "\\]"},       {"[^]a]", "\\]"},         {"a{1,2}+", "{1,2}+"},   {"a{2}?", "{2}?"},
      {"a{,2}", "{,2}"},     {"a{2,1}", "{2,1}"},      {"a{x", "{x"},           {"{", "\\{"},
      {"a**", "repeats"},    {"a+?*", "repeats"},      {"a{2}{3}", "repeats"},  {"(?m:.)", "(?m:"},
      {"(?i)a", "(?i)"},     {"(?s:.)", "(?s:"},       {"(?x: a)", "(?x:"},     {"(?<n>a)", "(?<n"},
      {"(?#c)", "(?#c"},     {"(?~a)", "(?~a"},        {"(*FAIL)", "(*FA"},     {"(?(1)a)", "(?(1"},
      {"\\R", "'\\R'"},      {"\\K", "'\\K'"},         {"\\G", "'\\G'"},        {"\\Z", "'\\Z'"},
      {"\\X", "'\\X'"},      {"\\N", "'\\N'"},         {"\\O", "'\\O'"},        {"\\H", "'\\H'"},
      {"\\Qa\\E", "'\\Q'"},  {"(a)\\1", "'\\1'"},      {"\\0", "'\\0'"},        {"\\k<a>", "'\\k'"},
      {"\\xC3", "\\xC3"},    {"\\x{D800}", "D800"},    {"\\x{110000}", "1100"}, {"\\u12", "\\u12"},
      {"[a-c-e]", "range"},  {"[z-a]", "range"},       {"[a-\\d]", "range"},    {"(?=a)*", "nothing to repeat"},
      {"^*", "nothing to"},  {"(?i:ss)", "'ss'"},      {"(?i:s(?:t))", "'st'"}, {"(?i:fFi)", "'ff'"},
      {"(?i:é)", "ASCII"},   {"(?i:\\w)", "(?i:"},     {"\\", "escapes"},       {"a\\é", "escape"}};
  for (const auto& [pattern, told] : refused) {
    json document = small_tokenizer_json();
    document["pre_tokenizer"] = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    const std::string error = error_of(document.dump());
    EXPECT_NE(error.find("small.json: 'pre_tokenizer.pattern.Regex' holds '" + pattern + "'"), std::string::npos)
        << error;
    EXPECT_NE(error.find(told), std::string::npos) << pattern << ": " << error;
  }
  json document = small_tokenizer_json();
  document["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "Sideways"}, {"invert", false}};
  EXPECT_NE(error_of(document.dump()).find("Sideways"), std::string::npos);
}

TEST(TokenizerFile, RefusesWhatIsNoBoundedJson) {
  const std::string good = small_tokenizer_json().dump();
  for (std::size_t length = 0; length < good.size(); length += 41) {
    EXPECT_NE(error_of(good.substr(0, length)).find("not acceptable JSON"), std::string::npos) << length;
  }
  const std::string deep = "{\"x\":" + std::string(1'000'000, '[');
  EXPECT_NE(error_of(deep).find("levels deep"), std::string::npos);
  EXPECT_NE(error_of("{\"a\":1,\"a\":2}").find("twice"), std::string::npos);
  EXPECT_NE(error_of(good + "x").find("not acceptable JSON"), std::string::npos);
  EXPECT_NE(error_of("{\"a\":\"\xFF\"}").find("not acceptable JSON"), std::string::npos);
}

TEST(TokenizerFile, MustExistAndNotBeHuge) {
  const testing::TemporaryFolder folder;
  EXPECT_THROW(Tokenizer::load(folder.path() / "none.json"), DataError);
  const fs::path huge = folder.path() / "huge.json";
  std::ofstream(huge) << "{}";
  fs::resize_file(huge, std::uintmax_t{65} << 20);
  EXPECT_THROW(Tokenizer::load(huge), DataError);
}

TEST(TokenizerFile, IgnoresTemplatesAndUnknownSettings) {
  json document = small_tokenizer_json();
  document["post_processor"] = {{"type", "TemplateProcessing"},
                                {"single", json::array()},
                                {"pair", json::array()},
                                {"special_tokens", json::object()}};
  document["model"]["comment"] = "x";
  document["truncation"] = document["padding"] = nullptr;
  EXPECT_EQ(make(document).encode("low"), make(small_tokenizer_json()).encode("low"));
}

}  // namespace
}  // namespace norma
