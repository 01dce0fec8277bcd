// What a run writes into its folder, read back: by this program's readers, and byte by byte where others read it.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/record/metrics.h"
#include "norma/record/results.h"
#include "norma/record/run_folder.h"
#include "norma/record/summary.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma {

namespace {

using ::norma::testing::contains;
using ::norma::testing::error_text;
using ::norma::testing::TemporaryFolder;

constexpr std::uint64_t kPlenty = 1 << 20;

std::vector<std::string> event_files(const fs::path& folder) {
  return expand_glob((folder / "events.out.tfevents.*").string());
}

template <class T>
T read_as(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// CRC-32C bit by bit, as RFC 3720 defines it.
std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
  }
  return crc ^ 0xffffffffu;
}

std::uint32_t masked(std::uint32_t crc) {
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// The records of a TFRecord file; both checksums of each are compared.
std::vector<std::string> read_records(const std::string& file) {
  std::vector<std::string> records;
  std::string_view rest = file;
  while (!rest.empty()) {
    const auto size = read_as<std::uint64_t>(rest);
    EXPECT_EQ(read_as<std::uint32_t>(rest.substr(8)), masked(crc32c(rest.substr(0, 8))));
    records.emplace_back(rest.substr(12, size));
    EXPECT_EQ(read_as<std::uint32_t>(rest.substr(12 + size)), masked(crc32c(records.back())));
    rest.remove_prefix(16 + size);
  }
  return records;
}

// One level of a protobuf message: the values of each field number, of which numbers stand as raw bytes.
std::multimap<int, std::string> fields_of(std::string_view message) {
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.at(0));
      message.remove_prefix(1);
      value |= std::uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
  };
  std::multimap<int, std::string> fields;
  while (!message.empty()) {
    const std::uint64_t key = varint();
    std::uint64_t number = 0;
    std::size_t size = 0;
    if ((key & 7) == 0) number = varint();
    if ((key & 7) == 1) size = 8;
    if ((key & 7) == 2) size = varint();
    if ((key & 7) == 5) size = 4;
    std::string value(message.substr(0, size));
    if ((key & 7) == 0) value.assign(reinterpret_cast<const char*>(&number), sizeof number);
    message.remove_prefix(size);
    fields.emplace(static_cast<int>(key >> 3), value);
  }
  return fields;
}

std::int64_t step_of(const std::string& record) {
  return read_as<std::int64_t>(fields_of(record).find(2)->second);
}

TEST(Tensorboard, TheTestsOwnChecksumGivesTheCheckValues) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

TEST(MetricsFile, WritesOneLinePerStepInOrder) {
  const TemporaryFolder folder;
  const double infinity = std::numeric_limits<double>::infinity();
  MetricsWriter writer(folder.path(), {0, false});
  writer.write(1, {{"train/loss", 0.1}, {"a", -infinity}, {"optim/lr", 3e-4}});
  writer.write(2, {{"train/loss", std::nan("")}, {"a", infinity}});
  EXPECT_EQ(read_file(folder.path() / "metrics.jsonl", kPlenty),
            "{\"step\":1,\"train/loss\":0.1,\"a\":\"-inf\",\"optim/lr\":0.0003}\n"
            "{\"step\":2,\"train/loss\":\"nan\",\"a\":\"inf\"}\n");
  EXPECT_TRUE(event_files(folder.path()).empty());
}

TEST(MetricsFile, ResumedFileEqualsThatOfAStraightRun) {
  const TemporaryFolder straight, resumed;
  const auto write_steps = [](const fs::path& folder, std::int64_t resume, std::int64_t first, std::int64_t last) {
    MetricsWriter writer(folder, {resume, false});
    for (std::int64_t step = first; step <= last; ++step) {
      writer.write(step, {{"train/loss", 1.0 / static_cast<double>(step)}});
    }
  };
  write_steps(straight.path(), 0, 1, 9);
  write_steps(resumed.path(), 0, 1, 7);
  OutputFile(resumed.path() / "metrics.jsonl", OutputFile::Mode::append).write("{\"step\":8,\"trai");
  write_steps(resumed.path(), 4, 5, 9);
  EXPECT_EQ(read_file(straight.path() / "metrics.jsonl", kPlenty),
            read_file(resumed.path() / "metrics.jsonl", kPlenty));
}

TEST(MetricsFile, IsReadBackLineByLine) {
  const TemporaryFolder folder;
  const double infinity = std::numeric_limits<double>::infinity();
  { MetricsWriter(folder.path(), {0, false}).write(3, {{"a", 0.1}, {"b", -infinity}, {"c", std::nan("")}}); }
  const auto read = [&] {
    std::vector<std::pair<std::int64_t, Metrics>> lines;
    read_metrics(folder.path(), [&](std::int64_t step, const Metrics& values) { lines.emplace_back(step, values); });
    return lines;
  };
  const auto append = [&](const char* text) {
    OutputFile(folder.path() / kMetricsFile, OutputFile::Mode::append).write(text);
  };
  append("{\"step\":4}\n{\"step\":5,\"a");  // the last line is still being written
  const auto lines = read();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].first, 3);
  ASSERT_EQ(lines[0].second.size(), 3u);
  EXPECT_EQ(lines[0].second[0], std::pair(std::string("a"), 0.1));
  EXPECT_EQ(lines[0].second[1].second, -infinity);
  EXPECT_TRUE(std::isnan(lines[0].second[2].second));
  EXPECT_EQ(lines[1], std::pair(std::int64_t{4}, Metrics{}));
  append("\":\"much\"}\n");
  EXPECT_TRUE(contains(error_text<DataError>(read), "metrics.jsonl:3: 'a' must be a number"));
}

TEST(MetricsNames, AreFoundAgainByTheirReaders) {
  EXPECT_EQ(metrics::validation_loss("books/en"), "eval/books/en/CrossEntropyLoss");
  EXPECT_EQ(metrics::validation_label(metrics::validation_loss("books/en")), "books/en");
  for (const std::string& other : {metrics::validation_perplexity("v"), metrics::document_loss("v"),
                                   std::string(metrics::kTrainLoss), std::string("eval/CrossEntropyLoss")}) {
    EXPECT_EQ(metrics::validation_label(other), std::nullopt) << other;
  }
  EXPECT_EQ(metrics::task_score("piqa", "len_norm"), "eval/downstream/piqa_len_norm");
  EXPECT_EQ(metrics::task_score("piqa", "bpb"), "eval/downstream_bpb/piqa_bpb");
  EXPECT_EQ(metrics::parameter(metrics::ParameterKind::exp_avg_sq, "w", metrics::Statistic::avg),
            "optim/exp_avg_sq/w.avg");
}

TEST(MetricsFile, MissingFolderIsADiskError) {
  const TemporaryFolder folder;
  EXPECT_THROW(MetricsWriter(folder.path() / "missing", {}), DiskError);
}

TEST(RunFolder, NamesItsCheckpoints) {
  EXPECT_EQ(checkpoint_name(120), "step-120");
  EXPECT_EQ(step_of_checkpoint("step-120"), 120);
  for (const char* other : {"step-", "step-007", "step-1a", "Step-1", "step-1234567890123456789", "latest"}) {
    EXPECT_EQ(step_of_checkpoint(other), std::nullopt) << other;
  }
}

TEST(RunFolder, IsLockedAndMarked) {
  const TemporaryFolder folder;
  const RunFolder run(folder.path() / "run");
  EXPECT_TRUE(contains(error_text<ConfigError>([&] { RunFolder again(folder.path() / "run"); }), "another process"));
  const std::string mark = run.mark();
  EXPECT_TRUE(has_mark(run.path(), mark));
  EXPECT_FALSE(has_mark(run.path(), mark + "0"));
  EXPECT_FALSE(has_mark(folder.path(), mark));
}

TEST(RunFolder, ItsDescriptionIsReadBack) {
  const TemporaryFolder folder;
  RunDescription description{"", {}, "the plan", {}};
  description.config.optim.lr = 0.123;
  description.environment.command = {"norma", "train"};
  description.environment.threads = 3;
  write_description(folder.path(), description);
  EXPECT_EQ(read_resolved_config(folder.path()).optim.lr, 0.123);
  const Environment environment = read_environment(folder.path());
  EXPECT_EQ(environment.command, description.environment.command);
  EXPECT_EQ(environment.threads, 3);
  EXPECT_EQ(environment.tokenizer_checksum, std::nullopt);
  write_file_atomic(folder.path() / kResolvedConfigFile, "optim: {lr: fast}\n");
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_resolved_config(folder.path()); }), "config.resolved.yaml:1"));
}

TEST(SummaryFile, IsReadBackAndThatOfAnOlderProgramToo) {
  const TemporaryFolder folder;
  Summary summary;
  summary.name = "a";
  summary.outcome = Outcome::finished;
  summary.step = 7;
  summary.validation = {{"books", 2.5}, {"code", 1.5}};
  summary.training_seconds = 1.25;
  write_summary(folder.path(), summary);
  const Summary read = read_summary(folder.path());
  EXPECT_EQ(read.name, "a");
  EXPECT_EQ(read.outcome, Outcome::finished);
  EXPECT_EQ(read.step, 7);
  EXPECT_EQ(read.validation, summary.validation);
  EXPECT_EQ(read.training_seconds, 1.25);
  EXPECT_EQ(read.training_tokens, std::nullopt);
  const fs::path path = folder.path() / kSummaryFile;
  Json older = read_json(path, kPlenty);
  older.erase("training_seconds");
  older.erase("training_tokens");
  write_file_atomic(path, older.dump());
  EXPECT_EQ(read_summary(folder.path()).training_seconds, std::nullopt);
  older["outcome"] = "lost";
  write_file_atomic(path, older.dump());
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_summary(folder.path()); }), "summary.json: 'outcome' must be"));
  older.erase("outcome");
  write_file_atomic(path, older.dump());
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_summary(folder.path()); }), "'outcome' is missing"));
}

TEST(BaselineFile, HoldsScoresByLabelOrForEverySet) {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / kBaselineFile;
  EXPECT_TRUE(read_run_baseline(folder.path()).empty());
  const Baseline by_label = {{"books", {6.5, 5.5, 100}}, {"code", {4.5, 3.5, 50}}};
  for (const Baseline& baseline : {by_label, Baseline{{"", {6.0, 5.0, 10}}}}) {
    write_file_atomic(file, json_text(baseline));
    EXPECT_EQ(read_run_baseline(folder.path()), baseline);
  }
  EXPECT_EQ(scores_of(read_baseline(file), "any")->bigram_nats, 5.0);
  EXPECT_EQ(scores_of(by_label, "code")->tokens, 50);
  EXPECT_EQ(scores_of(by_label, "other"), nullptr);
  write_file_atomic(file, R"({"books": {"unigram_nats": "low"}})");
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_baseline(file); }), "'books.unigram_nats' must be a"));
}

TEST(SamplesFile, IsReadBackAndThatOfOlderScriptsToo) {
  const TemporaryFolder folder;
  EXPECT_TRUE(read_samples(folder.path()).empty());
  write_file_atomic(folder.path() / kOldSampleFile, "The kernel is\n");
  EXPECT_EQ(read_samples(folder.path()).at(0).text, "The kernel is\n");
  write_texts(folder.path() / kSamplesFile, {{"The", " end", 2, "length"}, {"", "a\nb", 3, "stop"}});
  const std::vector<GeneratedText> samples = read_samples(folder.path());
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].prompt + samples[0].text, "The end");
  EXPECT_EQ(samples[1].text, "a\nb");
  EXPECT_EQ(samples[1].end, "stop");
}

TEST(LengthFile, IsReadBack) {
  const TemporaryFolder folder;
  EXPECT_FALSE(read_length(folder.path()));
  write_length(folder.path(), {"30min", 500, 3.6});
  EXPECT_EQ(read_length(folder.path())->steps, 500);
  EXPECT_EQ(read_length(folder.path())->asked, "30min");
}

EvaluatedModel some_model() {
  return {.path = "runs/a", .step = 7, .precision = "bf16", .tokenizer_checksum = "abc", .context_length = 64};
}

TEST(ResultsFile, IsReadBack) {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "results.json";
  EvaluationRecord results{.model = some_model(), .predictions = {}, .sets = {}, .tasks = {}};
  results.sets.emplace_back("books", SetScores{2.5, 0.1, 12.2, 20, {}});
  results.sets.emplace_back("code",
                            SetScores{1.5, {}, 4.5, 10, DocumentScores{{1.4, 0.2}, Score{0.9, {}}, 3, 300, 900}});
  results.tasks.emplace_back("piqa", TaskScores{0.5, 0.05, TaskMetric::len_norm, 10, 20, 1, 2, {{"acc", {0.4, {}}}}});
  write_results(file, results);
  const EvaluationRecord read = read_results(file);
  EXPECT_EQ(read.model.step, 7);
  EXPECT_EQ(read.predictions, std::nullopt);
  ASSERT_EQ(read.sets.size(), 2u);
  EXPECT_EQ(read.sets[0].first, "books");
  EXPECT_FALSE(read.sets[0].second.by_document);
  EXPECT_EQ(read.sets[1].second.standard_error, std::nullopt);
  EXPECT_EQ(read.sets[1].second.by_document->bits_per_byte->value, 0.9);
  ASSERT_EQ(read.tasks.size(), 1u);
  EXPECT_EQ(read.tasks[0].second.metric, TaskMetric::len_norm);
  EXPECT_EQ(read.tasks[0].second.left_out_documents, 2);
  EXPECT_EQ(read.tasks[0].second.metrics.at(0).first, "acc");
  const Json json = read_json(file, kPlenty);
  EXPECT_EQ(json.begin().key(), "norma_results");
  EXPECT_FALSE(json.contains("predictions") || json["sets"]["books"].contains("by_document"));
  EXPECT_TRUE(json["sets"]["code"]["standard_error"].is_null());
}

TEST(PredictionsFile, IsReadBackAlsoThroughItsResults) {
  const TemporaryFolder folder;
  PredictedDocument document;
  document.document = 5;
  document.label = 1;
  document.log_probabilities = {-3.0, -1.5};
  document.characters = {4, 5};
  document.bytes = {4, 6};
  document.scores.front() = 1.0;
  const Predictions written{.file = {}, .model = some_model(), .tasks = {{"piqa", TaskMetric::acc, {document}}}};
  write_predictions(folder.path() / "p.jsonl", written);
  write_results(folder.path() / "r.json", {.model = some_model(), .predictions = "p.jsonl", .sets = {}, .tasks = {}});
  for (const char* name : {"p.jsonl", "r.json"}) {
    const Predictions read = read_predictions(folder.path() / name);
    EXPECT_EQ(read.file, folder.path() / "p.jsonl");
    EXPECT_EQ(read.model.precision, "bf16");
    const PredictedDocument& one = read.tasks.at(0).documents.at(0);
    EXPECT_EQ(one.document, 5);
    EXPECT_EQ(one.chosen(), 1);
    EXPECT_EQ(one.bytes, document.bytes);
    EXPECT_EQ(one.scores, document.scores);
  }
}

TEST(Tensorboard, EventsReadBackAsTheyWereWritten) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder.path(), {});
  writer.write(300, {{"train/loss", 2.5}, {"optim/lr", std::nan("")}});
  const auto files = event_files(folder.path());
  ASSERT_EQ(files.size(), 1u);
  const auto records = read_records(read_file(files[0], kPlenty));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(fields_of(records[0]).find(3)->second, "brain.Event:2");
  EXPECT_EQ(step_of(records[1]), 300);
  EXPECT_GT(read_as<double>(fields_of(records[1]).find(1)->second), 1.5e9);
  const auto summary = fields_of(fields_of(records[1]).find(5)->second);
  ASSERT_EQ(summary.count(1), 2u);
  const auto loss = fields_of(summary.find(1)->second);
  EXPECT_EQ(loss.find(1)->second, "train/loss");
  EXPECT_EQ(read_as<float>(loss.find(2)->second), 2.5f);
  const auto rate = fields_of(std::next(summary.find(1))->second);
  EXPECT_TRUE(std::isnan(read_as<float>(rate.find(2)->second)));
}

TEST(Tensorboard, ResumingStartsAnotherFileThatPurgesLaterSteps) {
  const TemporaryFolder folder;
  { MetricsWriter(folder.path(), {}).write(7, {{"a", 1}}); }
  { MetricsWriter(folder.path(), {5, true}).write(6, {{"a", 2}}); }
  const auto files = event_files(folder.path());
  ASSERT_EQ(files.size(), 2u);
  const auto records = read_records(read_file(files[1], kPlenty));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(step_of(records[1]), 6);
  const auto log = fields_of(fields_of(records[1]).find(7)->second);
  EXPECT_EQ(read_as<std::int64_t>(log.find(1)->second), 1);  // SessionLog.START
}

}  // namespace

}  // namespace norma
