// Files: reading, atomic and staged writing, locks, maps, globs, checksums.
#include "norma/base/file.h"

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "norma/base/error.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma {

namespace {

using ::norma::testing::contains;
using ::norma::testing::error_text;
using ::norma::testing::TemporaryFolder;

TEST(File, ReadsWhatWasWrittenAtomically) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.bin";
  const std::string bytes("a\0b\n", 4);
  write_file_atomic(path, "old");
  write_file_atomic(path, bytes);
  EXPECT_EQ(read_file(path, 4), bytes);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

TEST(File, ReadingNamesThePathAndTheReason) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.txt";
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_file(path, 10); }), "a.txt': No such file"));
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_file(folder.path(), 10); }), "regular file"));
  write_file_atomic(path, "12345");
  EXPECT_TRUE(contains(error_text<DataError>([&] { read_file(path, 4); }), "too large: got 5"));
  EXPECT_EQ(read_file(path, 5), "12345");
}

TEST(File, FailedAtomicWriteLeavesTheOldFileAndNothingElse) {
  const TemporaryFolder folder;
  const fs::path target = folder.path() / "taken";
  fs::create_directory(target);  // a file cannot be renamed to a folder
  EXPECT_TRUE(contains(error_text<DiskError>([&] { write_file_atomic(target, "x"); }), "taken"));
  EXPECT_TRUE(fs::is_directory(target));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
  EXPECT_THROW(write_file_atomic(folder.path() / "missing" / "x", "x"), DiskError);
}

TEST(File, AtomicWriteReplacesRegularFilesOnly) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(error_text<DiskError>([&] { write_file_atomic("/dev/null", "x"); }), "not a regular file"));
  EXPECT_TRUE(contains(error_text<DiskError>([&] { write_file_atomic(folder.path(), "x"); }), "not a regular file"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(File, StagedPathAppearsWhenItIsPublished) {
  const TemporaryFolder folder;
  const fs::path target = folder.path() / "a" / "";
  {
    StagedPath dropped(target, "test");
    dropped.make_folder();
    EXPECT_TRUE(dropped.path().filename().string().starts_with(cat("a", kTemporaryMark)));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  StagedPath staged(target, "test");
  staged.make_folder();
  staged.publish();
  EXPECT_TRUE(fs::is_directory(folder.path() / "a"));
}

TEST(File, LockIsHeldOnceUntilItIsGivenBack) {
  const TemporaryFolder folder;
  for (const fs::path& path : {folder.path(), folder.path() / "lock"}) {
    std::optional<FileLock> first = FileLock::take(path);
    ASSERT_TRUE(first);
    FileLock moved = std::move(*first);
    first.reset();
    EXPECT_FALSE(FileLock::take(path));
    moved = FileLock::take(folder.path() / "other").value();
    EXPECT_TRUE(FileLock::take(path));
  }
  EXPECT_THROW(FileLock::take(folder.path() / "none" / "lock"), DiskError);
}

TEST(File, OutputFileAppendsTruncatesAndCounts) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "log";
  {
    OutputFile file(path, OutputFile::Mode::truncate);
    file.write("ab");
    file.write("cd", 2);
    EXPECT_EQ(file.bytes_written(), 4u);
    file.close();
    file.close();
    EXPECT_THROW(file.write("x"), CheckFailure);
  }
  OutputFile(path, OutputFile::Mode::append).write("ef");
  EXPECT_EQ(read_file(path, 100), "abcdef");
  OutputFile(path, OutputFile::Mode::truncate).write("g");
  EXPECT_EQ(read_file(path, 100), "g");
}

TEST(File, FullDiskIsADiskError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  OutputFile file("/dev/full", OutputFile::Mode::append);
  EXPECT_TRUE(contains(error_text<DiskError>([&] { file.write("x"); }), "No space left"));
}

TEST(File, MapsFilesAndMovesMaps) {
  const TemporaryFolder folder;
  write_file_atomic(folder.path() / "empty", "");
  write_file_atomic(folder.path() / "full", "xyz");
  MappedFile map(folder.path() / "empty");
  EXPECT_TRUE(map.bytes().empty());
  map = MappedFile(folder.path() / "full");
  const MappedFile moved(std::move(map));
  ASSERT_EQ(moved.bytes().size(), 3u);
  EXPECT_EQ(static_cast<char>(moved.bytes()[2]), 'z');
  EXPECT_THROW(MappedFile(folder.path() / "missing"), DataError);
}

TEST(File, GlobsAreSortedAndPlainNamesPassThrough) {
  const TemporaryFolder folder;
  for (const char* name : {"b.npy", "a.npy", "B.npy", "c.txt"}) write_file_atomic(folder.path() / name, "");
  const std::string base = folder.path().string();
  EXPECT_EQ(expand_glob(base + "/*.npy"),
            (std::vector<std::string>{base + "/B.npy", base + "/a.npy", base + "/b.npy"}));
  EXPECT_EQ(expand_glob(base + "/[a-b].npy").size(), 2u);
  EXPECT_TRUE(expand_glob(base + "/*.json").empty());
  EXPECT_EQ(expand_glob("not/there"), std::vector<std::string>{"not/there"});
}

TEST(File, ChecksumIsXxh3Of128Bits) {
  EXPECT_EQ(checksum({}), "99aa06d3014798d86001c324468d497f");  // published as the hash of nothing
  const std::string text = "hello";
  const std::string sum = checksum(std::as_bytes(std::span(text)));
  EXPECT_EQ(sum.size(), 32u);
  RunningChecksum running;
  for (const char& letter : text) running.update(std::as_bytes(std::span(&letter, 1)));
  EXPECT_EQ(running.digest(), sum);
  EXPECT_NE(sum, checksum(std::as_bytes(std::span(text)).first(4)));
}

}  // namespace
}  // namespace norma
