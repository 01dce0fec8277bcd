// Preparing token files, n-gram baselines.
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
  Workplace place;
  place.add("a.jsonl", "{\"text\": \"  ab\\n\"}\n{\"text\": \" \\u3000 \"}\n{\"text\": \"c<|endoftext|>\"}\n");
  place.add("b.txt", "d\n");
  const PrepareReport report = prepare(place.options, {});
  EXPECT_EQ(slurp(place.out("train-00000.npy")), raw<std::uint16_t>({'a', 'b', 256, 'c', 256, 'd', 256}));
  EXPECT_EQ(report.documents, 3);
  EXPECT_EQ(report.skipped, 1);
  EXPECT_EQ(report.train_tokens, 7);
  EXPECT_EQ(report.text_bytes, 2 + 14 + 1);
  EXPECT_EQ(report.files, std::vector<fs::path>{place.out("train-00000.npy")});
  const Sidecar sidecar = *read_sidecar(place.out("train-00000.npy"));
  EXPECT_EQ(sidecar.tokens, 7);
  EXPECT_EQ(sidecar.documents, 3);
  EXPECT_EQ(sidecar.vocab_size, 257);
  EXPECT_EQ(sidecar.eos_id, 256);
  EXPECT_EQ(sidecar.split, "train");
  EXPECT_EQ(slurp(place.out("tokenizer.json")), slurp(place.options.tokenizer));
  EXPECT_EQ(place.contents().size(), 3U);  // no remains of the work

  const TokenDataset dataset = open({place.out("train-*.npy").string()}, 3);
  dataset.verify();
  EXPECT_EQ(instance(dataset, 1), (Ids{'c', 256, 'd'}));
  EXPECT_EQ(*dataset.tokenizer(), place.out("tokenizer.json"));
}

TEST(Prepare, OutputDoesNotDependOnThreads) {
  Workplace place;
  place.add("a.jsonl.zst", zstd(numbered_documents(9000)));
  place.add("b.jsonl.gz", gzip(numbered_documents(3000)));
  place.options.validation_fraction = 0.1;
  place.options.max_tokens_per_file = 100000;
  std::map<std::string, std::string> first;
  for (const int threads : {1, 2, 5}) {
    place.options.threads = threads;
    place.options.overwrite = threads > 1;
    const PrepareReport report = prepare(place.options, {});
    EXPECT_EQ(report.documents, 12000);
    EXPECT_NEAR(static_cast<double>(report.validation_documents), 1200, 150);
    EXPECT_GE(report.files.size(), 5U);
    if (threads == 1) first = place.contents();
    EXPECT_EQ(place.contents(), first) << threads << " threads";
  }
  place.options.seed = 1;
  prepare(place.options, {});
  EXPECT_NE(place.contents(), first);
}

TEST(Prepare, FilesEndAtDocumentBorders) {
  Workplace place;
  place.add("a.jsonl",
            "{\"text\": \"1234\"}\n{\"text\": \"12\"}\n{\"text\": \"12\"}\n{\"text\": "
            "\"123456789\"}\n{\"text\": \"1\"}\n");
  place.options.max_tokens_per_file = 8;
  place.options.validation_every = 3;
  place.options.dtype = TokenDtype::uint32;
  const PrepareReport report = prepare(place.options, {});
  EXPECT_EQ(report.validation_documents, 1);
  EXPECT_EQ(fs::file_size(place.out("train-00000.npy")), 4 * (5 + 3));
  EXPECT_EQ(fs::file_size(place.out("train-00001.npy")), 4 * 10);
  EXPECT_EQ(fs::file_size(place.out("train-00002.npy")), 4 * 2);
  EXPECT_EQ(slurp(place.out("validation-00000.npy")), raw<std::uint32_t>({'1', '2', 256}));
  EXPECT_EQ(report.files.size(), 4U);
}

TEST(Prepare, AnEarlierOutputIsKeptUnlessOverwritten) {
  Workplace place;
  place.add("a.jsonl", numbered_documents(100));
  place.options.max_tokens_per_file = 500;
  prepare(place.options, {});
  const auto before = place.contents();
  expect_error<ConfigError>([&] { prepare(place.options, {}); }, {"out/train-00000.npy", "overwrite"});
  EXPECT_EQ(place.contents(), before);
  // The shorter output leaves no file of the longer one behind.
  place.options.max_tokens_per_file = 1 << 20;
  place.options.overwrite = true;
  prepare(place.options, {});
  EXPECT_EQ(place.contents().size(), 3U);
}

TEST(Prepare, AnErrorLeavesNothingThatLooksWhole) {
  Workplace place;
  place.add("a.jsonl", numbered_documents(9000) + "{\"text\": 1}\n");
  expect_error<DataError>([&] { prepare(place.options, {}); }, {"a.jsonl:9001"});
  EXPECT_TRUE(place.contents().empty());

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
  Workplace place;
  place.add("a.jsonl", numbered_documents(100));
  bool tried = false;
  const auto meanwhile = [&](const PrepareProgress&) {
    if (tried) return;
    tried = true;
    expect_error<ConfigError>([&] { prepare(place.options, {}); }, {"another prepare", place.options.output.string()});
  };
  EXPECT_EQ(prepare(place.options, meanwhile).documents, 100);
  EXPECT_TRUE(tried);
  EXPECT_EQ(place.contents().size(), 3U);
}

TEST(Prepare, CountsRepairedDocuments) {
  Workplace place;
  place.add("a.jsonl", "{\"text\": \"good\"}\n{\"text\": \"a\\ud800\"}\n{\"text\": \"b\xff\", \"x\": NaN}\n");
  place.add("b.txt", "\xc3");
  const PrepareReport report = prepare(place.options, {});
  EXPECT_EQ(report.documents, 4);
  EXPECT_EQ(report.repaired, 3);
}

TEST(Prepare, CanBeStoppedWithinADocument) {
  Workplace place;
  std::string text;
  for (int i = 0; text.size() < (std::size_t{32} << 20); ++i) text += cat("word", i, " ");
  place.add("a.txt", text);
  const auto stop = [](const PrepareProgress& progress) {
    EXPECT_EQ(progress.documents, 0);
    throw DiskError("stopped");
  };
  expect_error<DiskError>([&] { prepare(place.options, stop); }, {"stopped"});
  EXPECT_TRUE(place.contents().empty());
}

TEST(Prepare, OneDocumentIsCutAtAParagraph) {
  Workplace place;
  std::string text;
  for (int i = 0; i < 100; ++i) text += cat("First line of ", i, ".\nSecond line.\n\n");
  place.add("one.txt", text);
  place.options.validation_fraction = 0.05;
  const PrepareReport report = prepare(place.options, {});
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.validation_documents, 1);
  EXPECT_EQ(report.skipped, 0);
  EXPECT_NE(report.note.find("one document"), std::string::npos);
  EXPECT_NEAR(static_cast<double>(report.validation_tokens), 0.05 * static_cast<double>(report.tokens()), 40);
  const auto ids = [&](const char* file) { return slurp(place.out(file)); };
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
  Workplace place;
  place.add("one.jsonl", "\n{\"text\": \"aaaaaaa\u00e9\u00e9\u00e9\"}\n{\"text\": \" \"}\n");
  place.options.validation_every = 4;
  const PrepareReport report = prepare(place.options, {});
  EXPECT_EQ(report.validation_documents, 1);
  EXPECT_EQ(report.skipped, 1);
  EXPECT_EQ(slurp(place.out("validation-00000.npy")), raw<std::uint16_t>({0xC3, 0xA9, 0xC3, 0xA9, 256}));
}

TEST(Prepare, OfFewDocumentsTheNearestIsMoved) {
  for (const double fraction : {0.001, 0.999}) {
    Workplace place;
    place.add("a.txt", "first");
    place.add("b.txt", "second one");
    place.options.validation_fraction = fraction;
    const PrepareReport report = prepare(place.options, {});
    EXPECT_EQ(report.documents, 2);
    EXPECT_EQ(report.validation_documents, 1);
    EXPECT_NE(report.note.find(fraction < 0.5 ? "left validation" : "left training"), std::string::npos) << report.note;
    EXPECT_EQ(report.files.size(), 2U);
    EXPECT_EQ(place.contents().size(), 5U);
  }
  Workplace place;
  place.add("a.jsonl", numbered_documents(3));
  place.options.validation_every = 10;
  EXPECT_EQ(prepare(place.options, {}).validation_documents, 1);
  EXPECT_EQ(slurp(place.out("validation-00000.npy")).size(), 2 * (12 + 1));  // the last one
  place.options.validation_every = 2;
  place.options.overwrite = true;
  EXPECT_EQ(prepare(place.options, {}).note, "");
}

TEST(Prepare, RefusesOptionsThatCannotWork) {
  const auto refuses = [](auto error, const std::function<void(PrepareOptions&)>& edit,
                          const std::vector<std::string>& parts) {
    Workplace place;
    place.add("a.jsonl", numbered_documents(3));
    edit(place.options);
    expect_error<decltype(error)>([&] { prepare(place.options, {}); }, parts);
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

// Counts and hashes of the books, made with Hugging Face tokenizers 0.22.2 and Python's json and str.strip.
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
  // Every id is followed by the next: the table of pairs grows past several of its sizes.
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
