// metrics.jsonl and TensorBoard events, read back byte by byte.
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
#include "norma/train/metrics.h"

#include "support/fixtures.h"

namespace norma {

namespace {

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

// One level of a protobuf message: field number to its values, numbers as their raw bytes.
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

TEST(Crc32c, GivesTheCheckValues) {
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

TEST(MetricsFile, MissingFolderIsADiskError) {
  const TemporaryFolder folder;
  EXPECT_THROW(MetricsWriter(folder.path() / "missing", {}), DiskError);
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
