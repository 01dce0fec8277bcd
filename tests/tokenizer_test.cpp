#include "norma/data/tokenizer.h"

#include <fstream>
#include <random>
#include <thread>

#include <gtest/gtest.h>
#include <zstd.h>

#include "norma/base/error.h"
#include "norma/base/file.h"

#include "../src/data/unicode.h"
#include "support/fixtures.h"
#include "support/registration.h"
#include "support/sha256.h"
#include "support/small_tokenizer.h"

namespace norma {
namespace {

using nlohmann::json;
using testing::data_root;
using testing::random_text;
using testing::small_tokenizer_json;
using Ids = std::vector<std::uint32_t>;

Tokenizer make(const json& document) {
  return Tokenizer::from_json(document.dump(), "small.json");
}

// ---- Fixtures, whose numbers are those of Hugging Face tokenizers 0.22.2.

const std::vector<std::pair<std::string, std::string>> kTokenizers = {
    {"dolma2", "allenai_dolma2.json"}, {"neox", "allenai_gpt-neox-olmo-dolma-v1_5.json"}};

fs::path tokenizer_file(const std::string& name) {
  for (const auto& [known, file] : kTokenizers) {
    if (known == name) return data_root() / "tokenizers" / file;
  }
  return {};
}

json read_fixture(const fs::path& file) {
  return json::parse(read_file(file, 64 << 20));
}

void check_cases(const json& cases, const Tokenizer& tokenizer) {
  Tokenizer::Scratch scratch;
  for (const json& entry : cases) {
    const auto name = entry.at("name").get<std::string>();
    const auto text = entry.at("text").get<std::string>();
    const auto ids = entry.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer.encode(text), ids) << name;
    for (int round = 0; round < 2; ++round) {  // in the second round words come from the cache
      Ids cached;
      tokenizer.encode(text, cached, scratch);
      EXPECT_EQ(cached, ids) << name;
    }
    const auto decoded = entry.at("decoded").get<std::string>();
    EXPECT_EQ(tokenizer.decode(ids), decoded) << name;
    EXPECT_EQ(tokenizer.decode(ids, true), entry.value("decoded_skip_special", decoded)) << name;
  }
}

void check_unicode_table(const json& table) {
  std::vector<CharClass> kinds(0x110000, CharClass::other);
  std::vector<int> classes(0x110000, 0);
  const auto fill = [](auto& values, const json& ranges, auto value) {
    for (const json& range : ranges) {
      for (int code = range[0]; code <= range[1].get<int>(); ++code) values[code] = value;
    }
  };
  fill(kinds, table.at("regex").at("L"), CharClass::letter);
  fill(kinds, table.at("regex").at("N"), CharClass::number);
  fill(kinds, table.at("regex").at("s"), CharClass::space);
  for (const auto& [name, ranges] : table.at("nfc").at("ccc").items()) fill(classes, ranges, std::stoi(name));
  int wrong = 0;
  for (char32_t code = 0; code < 0x110000; ++code) {
    wrong += CharTable::get().kind(code) != kinds[code];
    wrong += combining_class(code) != classes[code];
  }
  EXPECT_EQ(wrong, 0);
  std::string out;
  EXPECT_TRUE(!to_nfc("\U00011935\U00011930", out) || out == "\U00011935\U00011930");
  EXPECT_TRUE(!to_nfc("\U00011938", out) || out == "\U00011938");
}

// Python's str.strip(): Unicode white space and the separators U+001C to U+001F.
std::string_view strip(std::string_view text) {
  const auto blank = [](char32_t code) {
    return CharTable::get().kind(code) == CharClass::space || (code >= 0x1C && code <= 0x1F);
  };
  std::size_t end = 0, begin = text.size();
  for (std::size_t at = 0; at < text.size();) {
    const DecodedChar next = decode_utf8(text.data() + at);
    if (!blank(next.code)) {
      begin = std::min(begin, at);
      end = at + next.length;
    }
    at += next.length;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

std::string decompress(const std::string& packed) {
  std::string text;
  std::string piece(ZSTD_DStreamOutSize(), '\0');
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  while (in.pos < in.size) {
    ZSTD_outBuffer out{piece.data(), piece.size(), 0};
    const std::size_t result = ZSTD_decompressStream(context, &out, &in);
    if (ZSTD_isError(result)) throw std::runtime_error(ZSTD_getErrorName(result));
    text.append(piece, 0, out.pos);
  }
  ZSTD_freeDCtx(context);
  return text;
}

void check_books(const json& expected) {
  const fs::path books = data_root() / "books/validation-00-of-01.jsonl.zst";
  if (!fs::exists(books)) GTEST_SKIP() << "no books at " << books;
  std::istringstream lines(decompress(read_file(books, 64 << 20)));
  std::vector<std::string> documents;
  for (std::string line; std::getline(lines, line);) {
    documents.emplace_back(strip(json::parse(line).at("text").get<std::string>()));
  }
  for (const auto& [name, want] : expected.at("tokenizers").items()) {
    if (!fs::exists(tokenizer_file(name))) GTEST_SKIP() << "tokenizer " << name << " is not installed";
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_file(name));
    Tokenizer::Scratch scratch;
    testing::Sha256 hash;
    std::size_t total = 0;
    for (const std::string& text : documents) {
      if (text.empty()) continue;
      Ids ids;
      tokenizer.encode(text, ids, scratch);
      if (ids.empty() || ids.back() != tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
      hash.update({reinterpret_cast<const char*>(ids.data()), ids.size() * 4});
      total += ids.size();
    }
    EXPECT_EQ(total, want.at("total_tokens").get<std::size_t>()) << name;
    EXPECT_EQ(hash.hex_digest(), want.at("sha256_uint32_le").get<std::string>()) << name;
  }
}

void run_fixture(const fs::path& file) {
  const std::string name = file.stem();
  const json content = read_fixture(file);
  if (name == "unicode") return check_unicode_table(content);
  if (name == "books_validation") return check_books(content);
  const fs::path tokenizer = tokenizer_file(name);
  if (tokenizer.empty()) GTEST_SKIP() << "no tokenizer is known for " << file;
  if (!fs::exists(tokenizer)) GTEST_SKIP() << "not installed: " << tokenizer;
  check_cases(content, Tokenizer::load(tokenizer));
}

const bool kRegistered =
    testing::announce([] { testing::register_fixture_cases("TokenizerFixtures", "tokenizer", &run_fixture); });

TEST(Sha256, GivesThePublishedDigest) {
  testing::Sha256 hash;
  hash.update("abc");
  EXPECT_EQ(hash.hex_digest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// ---- Encoding with a small tokenizer.

TEST(Tokenizer, TellsItsVocabulary) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  EXPECT_EQ(tokenizer.eos_id(), 256 + testing::kSmallMerges.size());
  EXPECT_EQ(tokenizer.vocab_size(), *tokenizer.eos_id() + 1);
  EXPECT_EQ(tokenizer.token_id("Ġ"), 32U);
  EXPECT_EQ(tokenizer.token_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.checksum().size(), 32U);
  EXPECT_NE(tokenizer.checksum(), Tokenizer::from_json(small_tokenizer_json().dump(1), "small.json").checksum());
}

TEST(Tokenizer, AppliesMergesByRank) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  const auto id = [&](const char* token) { return *tokenizer.token_id(token); };
  EXPECT_EQ(tokenizer.encode("lower lower"), (Ids{id("low"), id("er"), id("Ġlower")}));
  EXPECT_EQ(tokenizer.encode("aaaaa"), (Ids{id("aaaa"), id("a")}));
  EXPECT_EQ(tokenizer.encode("baaa"), (Ids{id("baa"), id("a")}));
  EXPECT_EQ(tokenizer.encode("12 12"), (Ids{id("12"), id("Ġ"), id("12")}));
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(Tokenizer, ReadsBothSpellingsOfMerges) {
  json document = small_tokenizer_json();
  const Tokenizer pairs = make(document);
  for (json& merge : document["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const Tokenizer strings = make(document);
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    const std::string text = random_text(random, 40);
    EXPECT_EQ(pairs.encode(text), strings.encode(text));
  }
}

// The definition of BPE for a word: join the leftmost pair of the lowest rank until no pair can be joined.
Ids encode_by_definition(const Tokenizer& tokenizer, std::string_view word) {
  std::vector<std::string> parts;
  for (unsigned char byte : word) parts.push_back(testing::byte_character(byte));
  while (true) {
    std::size_t best = testing::kSmallMerges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (testing::kSmallMerges[rank] == std::pair(parts[i], parts[i + 1])) {
          best = rank;
          at = i;
        }
      }
    }
    if (best == testing::kSmallMerges.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(*tokenizer.token_id(part));
  return ids;
}

TEST(Tokenizer, AgreesWithTheDefinitionForShortAndLongWords) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  std::mt19937 random(2);
  for (int length : {1, 2, 7, 31, 33, 47, 48, 49, 50, 200, 700}) {
    for (int i = 0; i < 20; ++i) {
      std::string word;
      for (int k = 0; k < length; ++k) word += "lowerneaab"[random() % 10];
      EXPECT_EQ(tokenizer.encode(word), encode_by_definition(tokenizer, word)) << word;
    }
  }
}

TEST(Tokenizer, DecodesWhatItEncoded) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  std::mt19937 random(3);
  Tokenizer::Scratch scratch;
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random, static_cast<int>(random() % 120));
    const Ids ids = tokenizer.encode(text);
    Ids cached;
    tokenizer.encode(text, cached, scratch);
    EXPECT_EQ(ids, cached);
    ASSERT_EQ(tokenizer.decode(ids), text);
  }
}

TEST(Tokenizer, KeepsScratchesOfDifferentTokenizersApart) {
  const Tokenizer with = make(small_tokenizer_json());
  const Tokenizer without = make(small_tokenizer_json({{"l", "o"}}));
  Tokenizer::Scratch scratch;
  for (int i = 0; i < 2; ++i) {
    Ids first, second;
    with.encode(" lower", first, scratch);
    without.encode(" lower", second, scratch);
    EXPECT_EQ(first, with.encode(" lower"));
    EXPECT_EQ(second, without.encode(" lower"));
    EXPECT_NE(first, second);
  }
}

TEST(Tokenizer, StopsWhenAsked) {
  json split = small_tokenizer_json();
  split["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "[a-z]+ ?"}}}, {"behavior", "Isolated"}, {"invert", false}};
  for (const json& document : {small_tokenizer_json(), split}) {
    const Tokenizer tokenizer = make(document);
    Tokenizer::Scratch scratch;
    std::atomic<bool> stop{false};
    scratch.stop_on(&stop);
    Ids ids;
    tokenizer.encode("low lower", ids, scratch);
    EXPECT_EQ(ids, tokenizer.encode("low lower"));
    stop = true;
    EXPECT_THROW(tokenizer.encode("low lower", ids, scratch), Error);
  }
}

TEST(Tokenizer, IsUsedFromSeveralThreads) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  std::mt19937 random(4);
  std::vector<std::string> texts(100);
  for (std::string& text : texts) text = random_text(random, 300);
  std::vector<std::vector<Ids>> results(3, std::vector<Ids>(texts.size()));
  std::vector<std::thread> threads;
  threads.reserve(results.size());
  for (auto& result : results) {
    threads.emplace_back([&] {
      Tokenizer::Scratch scratch;
      for (std::size_t i = 0; i < texts.size(); ++i) tokenizer.encode(texts[i], result[i], scratch);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    for (const auto& result : results) EXPECT_EQ(result[i], tokenizer.encode(texts[i]));
  }
}

TEST(Tokenizer, ReplacesIllFormedUtf8) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  const std::string bad = "\xEF\xBF\xBD";
  const std::vector<std::pair<std::string, std::string>> cases = {{"a\xFF"
                                                                   "b",
                                                                   "a" + bad + "b"},
                                                                  {"\xC3", bad},
                                                                  {"\xE4\xB8"
                                                                   "a",
                                                                   bad + "a"},
                                                                  {"\xED\xA0\x80", bad + bad + bad},
                                                                  {"\xF0\x9F\x98", bad},
                                                                  {"\xF4\x90\x80\x80", bad + bad + bad + bad},
                                                                  {"\xC0\xAF", bad + bad},
                                                                  {"\x80 \xE2\x82\xAC", bad + " \xE2\x82\xAC"},
                                                                  {"ordinary text \xF8", "ordinary text " + bad}};
  for (const auto& [given, expected] : cases) EXPECT_EQ(tokenizer.decode(tokenizer.encode(given)), expected);
  EXPECT_EQ(tokenizer.decode(Ids{0xC3, 0xA9, 0xC3}), "é" + bad);
  EXPECT_EQ(tokenizer.decode(Ids{0x61, 4000000000U}), "a");
}

TEST(Tokenizer, EncodesLongTextsWithoutSpaces) {
  const Tokenizer tokenizer = make(small_tokenizer_json());
  json with_nfc = small_tokenizer_json();
  with_nfc["normalizer"] = {{"type", "NFC"}};
  const Tokenizer normalizing = make(with_nfc);
  std::string letters;
  for (int i = 0; i < 1'000'000; ++i) letters += "lowernewaa"[(i * 7 + i / 13) % 10];
  std::string marks = "a";
  for (int i = 0; i < 100'000; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
  for (const std::string& text : {letters, std::string(1'000'000, 'a'), std::string(1'000'000, ' '),
                                  std::string(100'000, '\''), std::string(300'000, '\n') + "x"}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_EQ(normalizing.decode(normalizing.encode(marks)).size(), 1 + 2 * 100'000U);
}

}  // namespace
}  // namespace norma
