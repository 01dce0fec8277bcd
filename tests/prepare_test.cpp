// Text into token files, and the n-gram baselines that are counted on them.
#include "norma/data/prepare.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/data/characters.h"
#include "norma/data/ngram.h"
#include "norma/data/text_reader.h"

#include "support/data_files.h"
#include "support/fixtures.h"

namespace norma {
namespace {

using namespace testing;

// ---- prepare

struct Workplace {
  TemporaryFolder folder;
  PrepareOptions options;

  Workplace() {
    options.tokenizer = folder.path() / "bytes.json";
    options.output = folder.path() / "out";
    write(options.tokenizer, byte_tokenizer());
  }
  void add(const std::string& file, const std::string& bytes) {
    write(folder.path() / file, bytes);
    options.inputs.push_back((folder.path() / file).string());
  }
  fs::path out(const std::string& file) const { return options.output / file; }
  // Every file of the output folder.
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::directory_iterator(options.output)) {
      all[entry.path().filename().string()] = entry.is_directory() ? "folder" : slurp(entry.path());
    }
    return all;
  }
};

std::string numbered_documents(int n) {
  std::string lines;
  for (int i = 0; i < n; ++i)
    lines += cat("{\"text\": \" document ", i, std::string(static_cast<std::size_t>(i % 50), '.'), "\"}\n");
  return lines;
}

TEST(Prepare, StripsSkipsEncodesAndEndsDocuments) {
  Workplace work;
  work.add("a.jsonl", "{\"text\": \"  ab\\n\"}\n{\"text\": \" \\u3000 \"}\n{\"text\": \"c<|endoftext|>\"}\n");
  work.add("b.txt", "d\n");
  const PrepareReport report = prepare(work.options, {});
  EXPECT_EQ(slurp(work.out("train-00000.npy")), raw<std::uint16_t>({'a', 'b', 256, 'c', 256, 'd', 256}));
  EXPECT_EQ(report.documents, 3);
  EXPECT_EQ(report.skipped, 1);
  EXPECT_EQ(report.train_tokens, 7);
  EXPECT_EQ(report.text_bytes, 2 + 14 + 1);
  EXPECT_EQ(report.files, std::vector<fs::path>{work.out("train-00000.npy")});
  const Sidecar sidecar = *read_sidecar(work.out("train-00000.npy"));
  EXPECT_EQ(sidecar.tokens, 7);
  EXPECT_EQ(sidecar.documents, 3);
  EXPECT_EQ(sidecar.vocab_size, 257);
  EXPECT_EQ(sidecar.eos_id, 256);
  EXPECT_EQ(sidecar.split, "train");
  EXPECT_EQ(slurp(work.out("tokenizer.json")), slurp(work.options.tokenizer));
  EXPECT_EQ(work.contents().size(), 3U);  // tokens, sidecar and tokenizer: no temporary file is left

  const TokenDataset dataset = open({work.out("train-*.npy").string()}, 3);
  dataset.verify();
  EXPECT_EQ(instance(dataset, 1), (Ids{'c', 256, 'd'}));
  EXPECT_EQ(*dataset.tokenizer(), work.out("tokenizer.json"));
}

TEST(Prepare, OutputDoesNotDependOnThreads) {
  Workplace work;
  work.add("a.jsonl.zst", zstd(numbered_documents(9000)));
  work.add("b.jsonl.gz", gzip(numbered_documents(3000)));
  work.options.validation_fraction = 0.1;
  work.options.max_tokens_per_file = 100000;
  std::map<std::string, std::string> first;
  for (const int threads : {1, 2, 5}) {
    work.options.threads = threads;
    work.options.overwrite = threads > 1;
    const PrepareReport report = prepare(work.options, {});
    EXPECT_EQ(report.documents, 12000);
    EXPECT_NEAR(static_cast<double>(report.validation_documents), 1200, 150);
    EXPECT_GE(report.files.size(), 5U);
    if (threads == 1) first = work.contents();
    EXPECT_EQ(work.contents(), first) << threads << " threads";
  }
  work.options.seed = 1;
  prepare(work.options, {});
  EXPECT_NE(work.contents(), first);
}

TEST(Prepare, FilesEndAtDocumentBorders) {
  Workplace work;
  work.add("a.jsonl",
           "{\"text\": \"1234\"}\n{\"text\": \"12\"}\n{\"text\": \"12\"}\n{\"text\": "
           "\"123456789\"}\n{\"text\": \"1\"}\n");
  work.options.max_tokens_per_file = 8;
  work.options.validation_every = 3;
  work.options.dtype = TokenDtype::uint32;
  const PrepareReport report = prepare(work.options, {});
  EXPECT_EQ(report.validation_documents, 1);
  EXPECT_EQ(fs::file_size(work.out("train-00000.npy")), 4 * (5 + 3));
  EXPECT_EQ(fs::file_size(work.out("train-00001.npy")), 4 * 10);
  EXPECT_EQ(fs::file_size(work.out("train-00002.npy")), 4 * 2);
  EXPECT_EQ(slurp(work.out("validation-00000.npy")), raw<std::uint32_t>({'1', '2', 256}));
  EXPECT_EQ(report.files.size(), 4U);
}

TEST(Prepare, AnEarlierOutputIsKeptUnlessOverwritten) {
  Workplace work;
  work.add("a.jsonl", numbered_documents(100));
  work.options.max_tokens_per_file = 500;
  prepare(work.options, {});
  const auto before = work.contents();
  expect_error<ConfigError>([&] { prepare(work.options, {}); }, {"out/train-00000.npy", "overwrite"});
  EXPECT_EQ(work.contents(), before);
  // One large file replaces many small ones, of which none is left.
  work.options.max_tokens_per_file = 1 << 20;
  work.options.overwrite = true;
  prepare(work.options, {});
  EXPECT_EQ(work.contents().size(), 3U);
}

TEST(Prepare, AnErrorLeavesNothingThatLooksWhole) {
  Workplace work;
  work.add("a.jsonl", numbered_documents(9000) + "{\"text\": 1}\n");
  expect_error<DataError>([&] { prepare(work.options, {}); }, {"a.jsonl:9001"});
  EXPECT_TRUE(work.contents().empty());

  Workplace cancelled;
  cancelled.add("a.jsonl", numbered_documents(9000));
  fs::create_directories(cancelled.out(".preparing/remains"));
  std::int64_t documents = 0;
  const auto cancel = [&](const PrepareProgress& progress) {
    documents = progress.documents;
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    if (progress.documents > 5000) throw DiskError("cancelled");
  };
  expect_error<DiskError>([&] { prepare(cancelled.options, cancel); }, {"cancelled"});
  EXPECT_GT(documents, 5000);
  EXPECT_TRUE(cancelled.contents().empty());
}

TEST(Prepare, ASecondOneIntoTheSameFolderIsRefused) {
  Workplace work;
  work.add("a.jsonl", numbered_documents(100));
  bool tried = false;
  const auto meanwhile = [&](const PrepareProgress&) {
    if (tried) return;
    tried = true;
    expect_error<ConfigError>([&] { prepare(work.options, {}); }, {"another prepare", work.options.output.string()});
  };
  EXPECT_EQ(prepare(work.options, meanwhile).documents, 100);
  EXPECT_TRUE(tried);
  EXPECT_EQ(work.contents().size(), 3U);
}

TEST(Prepare, CountsRepairedDocuments) {
  Workplace work;
  work.add("a.jsonl", "{\"text\": \"good\"}\n{\"text\": \"a\\ud800\"}\n{\"text\": \"b\xff\", \"x\": NaN}\n");
  work.add("b.txt", "\xc3");
  const PrepareReport report = prepare(work.options, {});
  EXPECT_EQ(report.documents, 4);
  EXPECT_EQ(report.repaired, 3);
}

TEST(Prepare, CanBeStoppedWithinADocument) {
  Workplace work;
  std::string text;
  for (int i = 0; text.size() < (std::size_t{32} << 20); ++i) text += cat("word", i, " ");
  work.add("a.txt", text);
  const auto stop = [](const PrepareProgress& progress) {
    EXPECT_EQ(progress.documents, 0);
    throw DiskError("stopped");
  };
  expect_error<DiskError>([&] { prepare(work.options, stop); }, {"stopped"});
  EXPECT_TRUE(work.contents().empty());
}

TEST(Prepare, OneDocumentIsCutAtAParagraph) {
  Workplace work;
  std::string text;
  for (int i = 0; i < 100; ++i) text += cat("First line of ", i, ".\nSecond line.\n\n");
  work.add("one.txt", text);
  work.options.validation_fraction = 0.05;
  const PrepareReport report = prepare(work.options, {});
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.validation_documents, 1);
  EXPECT_EQ(report.skipped, 0);
  EXPECT_NE(report.note.find("one document"), std::string::npos);
  EXPECT_NEAR(static_cast<double>(report.validation_tokens), 0.05 * static_cast<double>(report.tokens()), 40);
  const auto ids = [&](const char* file) { return slurp(work.out(file)); };
  const std::size_t cut = text.find("First line of 95.");
  Ids train, validation;
  for (const char c : strip(std::string_view(text).substr(0, cut))) train.push_back(c);
  for (const char c : strip(std::string_view(text).substr(cut))) validation.push_back(c);
  train.push_back(256);
  validation.push_back(256);
  EXPECT_EQ(ids("train-00000.npy"), raw<std::uint16_t>(train));
  EXPECT_EQ(ids("validation-00000.npy"), raw<std::uint16_t>(validation));
}

TEST(Prepare, OneDocumentWithoutBordersIsCutBetweenCharacters) {
  Workplace work;
  work.add("one.jsonl", "\n{\"text\": \"aaaaaaa\u00e9\u00e9\u00e9\"}\n{\"text\": \" \"}\n");
  work.options.validation_every = 4;
  const PrepareReport report = prepare(work.options, {});
  EXPECT_EQ(report.validation_documents, 1);
  EXPECT_EQ(report.skipped, 1);
  EXPECT_EQ(slurp(work.out("validation-00000.npy")), raw<std::uint16_t>({0xC3, 0xA9, 0xC3, 0xA9, 256}));
}

TEST(Prepare, TheNearestDocumentIsMovedWhenASplitIsEmpty) {
  for (const double fraction : {0.001, 0.999}) {
    Workplace work;
    work.add("a.txt", "first");
    work.add("b.txt", "second one");
    work.options.validation_fraction = fraction;
    const PrepareReport report = prepare(work.options, {});
    EXPECT_EQ(report.documents, 2);
    EXPECT_EQ(report.validation_documents, 1);
    EXPECT_NE(report.note.find(fraction < 0.5 ? "left validation" : "left training"), std::string::npos) << report.note;
    EXPECT_EQ(report.files.size(), 2U);
    EXPECT_EQ(work.contents().size(), 5U);
  }
  Workplace work;
  work.add("a.jsonl", numbered_documents(3));
  work.options.validation_every = 10;
  EXPECT_EQ(prepare(work.options, {}).validation_documents, 1);
  EXPECT_EQ(slurp(work.out("validation-00000.npy")).size(), 2 * (12 + 1));  // the last document
  work.options.validation_every = 2;
  work.options.overwrite = true;
  EXPECT_EQ(prepare(work.options, {}).note, "");
}

TEST(Prepare, RefusesOptionsThatCannotWork) {
  const auto refuses = []<class E>(const E&, const std::function<void(PrepareOptions&)>& edit,
                                   const std::vector<std::string>& parts) {
    Workplace work;
    work.add("a.jsonl", numbered_documents(3));
    edit(work.options);
    expect_error<E>([&] { prepare(work.options, {}); }, parts);
  };
  const ConfigError usage("");
  const DataError data("");
  refuses(usage, [](auto& o) { o.validation_fraction = 1; }, {"fraction"});
  refuses(usage, [](auto& o) { o.validation_every = 1; }, {"n-th"});
  refuses(usage, [](auto& o) { o.validation_every = 2, o.validation_fraction = 0.5; }, {"both"});
  refuses(usage, [](auto& o) { o.max_tokens_per_file = 0; }, {"positive"});
  refuses(usage, [](auto& o) { o.output = o.inputs[0]; }, {"must be a folder"});
  refuses(usage, [](auto& o) { fs::create_directories(o.output), write(o.output / "tokenizer.json", "{}"); },
          {"another tokenizer"});
  refuses(usage, [](auto& o) { write(o.tokenizer, byte_tokenizer(70000)), o.dtype = TokenDtype::uint16; },
          {"uint16", "70001"});
  refuses(data, [](auto& o) { o.eos_token = "</s>"; }, {"'</s>'"});
  refuses(usage, [](auto& o) { o.output.clear(); }, {"output folder", "empty"});
  refuses(data, [](auto& o) { write(o.inputs[0], "{\"text\": \"a\"}\n"), o.validation_every = 4; },
          {"1 went to training", "0 to validation"});
  refuses(data, [](auto& o) { write(o.inputs[0], "\n"); }, {"0 document(s)"});
  refuses(data, [](auto& o) { o.tokenizer = "none.json"; }, {"none.json"});
}

// The expected counts and hashes were made with Hugging Face tokenizers 0.22.2 and Python's json and str.strip.
void expect_books(const std::string& tokenizer, TokenDtype dtype, std::int64_t tokens, const std::string& sha256) {
  const fs::path books = data_root() / "books/validation-00-of-01.jsonl.zst";
  const fs::path json = data_root() / "tokenizers" / tokenizer;
  if (!fs::exists(books) || !fs::exists(json)) GTEST_SKIP() << "needs " << books << " and " << json;
  const TemporaryFolder folder;
  PrepareOptions options;
  options.inputs = {books.string()};
  options.tokenizer = json;
  options.output = folder.path();
  options.dtype = dtype;
  const PrepareReport report = prepare(options, {});
  EXPECT_EQ(report.documents, 7);
  EXPECT_EQ(report.train_tokens, tokens);
  EXPECT_EQ(sha256_hex(slurp(folder.path() / "train-00000.npy")), sha256);
}

TEST(PrepareBooks, Dolma2HasTheReferencesHash) {
  expect_books("allenai_dolma2.json", TokenDtype::automatic, 921465,
               "fc6a99ef03b8737e6130ff1fd69a89150b5bbdb6663bccf9dd13c651ee24311d");
}

TEST(PrepareBooks, NeoxHasTheReferencesHashes) {
  expect_books("allenai_gpt-neox-olmo-dolma-v1_5.json", TokenDtype::automatic, 953859,
               "576e687ab33ad8bf93604980f06d1e1a9b2da6181eb0fa316524acc4d555eae4");
  expect_books("allenai_gpt-neox-olmo-dolma-v1_5.json", TokenDtype::uint32, 953859,
               "39a2e750b19a1c8f912c4737c687ba1153ed8b6ba420d0fa6789167f2b9a70ff");
}

// ---- n-grams

TEST(NgramBaseline, IsAddOneCountingOverTheScoredPositions) {
  const TemporaryFolder folder;
  const auto name = [&](const char* file) { return (folder.path() / file).string(); };
  write(name("train.npy"), raw<std::uint16_t>({0, 1, 0, 1, 1, 2, 2, 2}));
  write(name("validation.npy"), raw<std::uint16_t>({0, 1, 2, 3, 1, 3}));
  const TokenDataset train = open({name("train.npy")}, 4, TokenDtype::uint16);            // 0101 1222
  const TokenDataset validation = open({name("validation.npy")}, 3, TokenDtype::uint16);  // 012 313
  const NgramBaseline baseline = ngram_baseline(train, validation, 4);
  EXPECT_EQ(baseline.tokens, 4);
  // Counts 2 3 3 0 of 8; targets 1, 2, 1, 3.
  EXPECT_NEAR(baseline.unigram_nats, -std::log(4.0 / 12 * 4 / 12 * 4 / 12 * 1 / 12) / 4, 1e-14);
  // 01: 2 of 2; 12: 1 of 2; 31: 0 of 0; 13: 0 of 2.
  EXPECT_NEAR(baseline.bigram_nats, -std::log(3.0 / 6 * 2 / 6 * 1 / 4 * 1 / 6) / 4, 1e-14);
  expect_error<DataError>([&] { ngram_baseline(train, validation, 3); }, {"below 3", "got 3"});
}

TEST(NgramBaseline, ManyPairsAreCountedRight) {
  // Each id is followed by the next one, so there are 199,999 pairs and their table grows several times.
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "x.npy").string();
  write(path, raw<std::uint32_t>(counting(0, 200000)));
  const TokenDataset dataset = open({path}, 200000, TokenDtype::uint32);
  const NgramBaseline baseline = ngram_baseline(dataset, dataset, 200000);
  EXPECT_NEAR(baseline.unigram_nats, std::log(400000.0 / 2), 1e-9);
  EXPECT_NEAR(baseline.bigram_nats, std::log(200001.0 / 2), 1e-9);
}

}  // namespace
}  // namespace norma
