// Documents out of text files.
#include "norma/data/text_reader.h"

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/data/characters.h"

#include "support/data_files.h"
#include "support/fixtures.h"

namespace norma {
namespace {

using namespace testing;

std::vector<std::string> texts(const std::vector<std::string>& inputs,
                               std::uint64_t max_bytes = TextReader::kMaxDocumentBytes) {
  TextReader reader(find_text_files(inputs), max_bytes);
  std::vector<std::string> all;
  for (RawDocument document; reader.next(document);) all.push_back(document_text(document).text);
  EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
  return all;
}

TEST(TextReader, ReadsEveryKindOfFile) {
  const TemporaryFolder folder;
  const fs::path& root = folder.path();
  fs::create_directories(root / "deep/er");
  fs::create_directories(root / ".git");
  write(root / "a.jsonl",
        "{\"id\": 1, \"text\": \"one\"}\n\n  \r\n{\"meta\": {\"text\": \"no\"}, \"list\": [{\"text\": 1}], "
        "\"text\": \"two\\n\\u00e9\"}");
  write(root / "b.jsonl.gz",
        gzip("{\"text\": \"thr") + gzip("ee\"}\n") + gzip("{\"text\": \"four\"}\n") + std::string(7, '\0'));
  write(root / "c.jsonl.zst", zstd("{\"text\": \"fi") + zstd("ve\"}\n{\"text\": \"six\"}"));
  write(root / "d.txt", "whole\nfile\n");
  write(root / "deep/e.md.gz", gzip("# seven"));
  write(root / "deep/er/f.rst.txt.zst", zstd("eight"));
  write(root / "deep/g.json.gz", gzip("{\"text\": \"nine\"}"));
  write(root / "deep/settings.json", "{}");
  write(root / ".git/hidden.txt", "hidden");
  write(root / "z.rst", "");
  const std::vector<std::string> expected{"one",           "two\n\u00e9", "three", "four", "five", "six",
                                          "whole\nfile\n", "# seven",     "eight", "nine", ""};
  EXPECT_EQ(texts({root.string()}), expected);
  EXPECT_EQ(texts({(root / "[ca].jsonl*").string(), (root / "d.txt").string()}),
            (std::vector<std::string>{"one", "two\n\u00e9", "five", "six", "whole\nfile\n"}));
}

TEST(TextReader, DocumentsMayBeLongerThanItsBuffers) {
  const TemporaryFolder folder;
  std::string text;
  while (text.size() < (std::size_t{5} << 20)) text += cat("line ", text.size(), " ");
  const std::string lines = "{\"text\": \"" + text + "\"}\n{\"text\": \"after\"}\n";
  write(folder.path() / "1.jsonl", lines);
  write(folder.path() / "2.jsonl.gz", gzip(lines));
  write(folder.path() / "3.jsonl.zst", zstd(lines));
  write(folder.path() / "4.txt.zst", zstd(text));
  EXPECT_EQ(texts({folder.path().string()}),
            (std::vector<std::string>{text, "after", text, "after", text, "after", text}));
}

TEST(TextReader, IllFormedUtf8IsReplaced) {
  const TemporaryFolder folder;
  write(folder.path() / "a.jsonl", "{\"text\": \"a\xff\xe2\x82z\"}\n");
  write(folder.path() / "b.txt", "\xc3");
  EXPECT_EQ(texts({folder.path().string()}), (std::vector<std::string>{"a\ufffd\ufffdz", "\ufffd"}));
}

TEST(TextReader, ReadsWhatPythonReadsBeyondStrictJson) {
  const auto read = [](const std::string& line) {
    RawDocument document;
    document.bytes = line;
    document.is_json = true;
    return document_text(std::move(document));
  };
  const DocumentText numbers =
      read(R"({"a": NaN, "b": [Infinity, -Infinity, 1e999, -1E+999], "text": "NaN 1e999 Infinity"})");
  EXPECT_EQ(numbers.text, "NaN 1e999 Infinity");
  EXPECT_FALSE(numbers.is_repaired);
  const DocumentText lone = read(R"({"text": "a\ud800b\\ud800\udc00\ud83d\ude00\ud83d\ud83d\ude00\ud800"})");
  EXPECT_EQ(lone.text, "a\ufffdb\\ud800\ufffd\U0001F600\ufffd\U0001F600\ufffd");
  EXPECT_TRUE(lone.is_repaired);
  EXPECT_FALSE(read(R"({"text": "\ud83d\ude00"})").is_repaired);
  EXPECT_TRUE(read("{\"text\": \"\xff\"}").is_repaired);
  expect_error<DataError>([&] { read(R"({"text": NaN})"); }, {"\"text\""});
  expect_error<DataError>([&] { read(R"({"text": "x", "a": 1NaN})"); }, {"bad JSON"});
  expect_error<DataError>([&] { read(R"({"text": nan})"); }, {"byte 11: syntax error", "invalid literal"});
}

TEST(TextReader, ErrorsNameFileAndLine) {
  const TemporaryFolder folder;
  const auto fails = [&](const std::string& file, const std::string& bytes, const std::vector<std::string>& parts,
                         std::uint64_t max_bytes = TextReader::kMaxDocumentBytes) {
    const fs::path path = folder.path() / file;
    write(path, bytes);
    std::vector<std::string> all = parts;
    all.push_back(file);
    expect_error<DataError>([&] { texts({path.string()}, max_bytes); }, all);
  };
  const std::string good = "{\"text\": \"x\"}\n";
  fails("bad.jsonl", good + "\n{\"text\": }\n", {"bad.jsonl:3", "JSON at byte 10: syntax error", "unexpected '}'"});
  fails("two.jsonl", good + "{\"text\": \"x\"} {}\n", {"two.jsonl:2", "JSON"});
  fails("none.jsonl", good + good + "{\"body\": \"x\"}", {"none.jsonl:3", "\"text\""});
  fails("number.jsonl", "{\"text\": 5}", {"number.jsonl:1", "string"});
  fails("array.jsonl", "[{\"text\": \"x\"}]", {"array.jsonl:1", "object"});
  fails("twice.jsonl", "{\"text\": \"x\", \"text\": \"y\"}", {"twice.jsonl:1", "once"});
  fails("deep.jsonl", std::string(2000000, '['), {"deep.jsonl:1", "JSON"});
  fails("long.jsonl", good + "{\"text\": \"" + std::string(5000, 'x') + "\"}", {"long.jsonl:2", "at most 4096"}, 4096);
  fails("long.txt.gz", gzip(std::string(5000, 'x')), {"at most 4096"}, 4096);
  fails("plain.jsonl.gz", good, {"not valid gzip"});
  fails("plain.jsonl.zst", good, {"not valid zstd"});
  fails("cut.jsonl.gz", gzip(good).substr(0, 15), {"cut off"});
  fails("cut.jsonl.zst", zstd(good).substr(0, 15), {"cut off"});
  fails("tail.jsonl.gz", gzip(good) + "tail", {"not valid gzip"});
  fails("tail.jsonl.zst", zstd(good) + "tail!", {"not valid zstd"});
}

TEST(TextReader, ErrorsNameWhatWasAskedFor) {
  const TemporaryFolder folder;
  const auto name = [&](const char* file) { return (folder.path() / file).string(); };
  write(name("x.pdf"), "x");
  expect_error<DataError>([] { find_text_files({}); }, {"at least one input"});
  expect_error<DataError>([&] { find_text_files({name("none.txt")}); }, {"none.txt", "does not exist"});
  expect_error<DataError>([&] { find_text_files({name("*.txt")}); }, {"*.txt", "match"});
  expect_error<DataError>([&] { find_text_files({name("x.pdf")}); }, {"x.pdf", ".jsonl"});
  expect_error<DataError>([&] { find_text_files({folder.path().string()}); }, {folder.path().string(), ".jsonl"});
}

TEST(Strip, CutsWhatPythonCuts) {
  EXPECT_EQ(strip(" \t\n\v\f\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2005\u200a\u2028\u2029\u202f\u205f"
                  "\u3000x y\u3000 \u0085"),
            "x y");
  EXPECT_EQ(strip("\u200bx\ufeff"), "\u200bx\ufeff");  // of zero width, but no white space
  EXPECT_EQ(strip("\xa0x\x85"), "\xa0x\x85");          // these bytes are no characters
  EXPECT_EQ(strip(" \u2003 "), "");
  EXPECT_EQ(strip(""), "");
}

}  // namespace
}  // namespace norma
