// The manifest, and how a checkpoint is published, is found again, and is refused when it is broken.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/checkpoint/commit.h"
#include "norma/checkpoint/manifest.h"
#include "norma/checkpoint/safetensors.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma {

namespace {

using ::norma::testing::contains;
using ::norma::testing::error_text;
using ::norma::testing::TemporaryFolder;

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

Manifest small_manifest() {
  Manifest manifest;
  manifest.step = 20;
  manifest.tokens = 1'000'000'000'000;
  manifest.world_size = 2;
  manifest.files = {{"a.safetensors", 100, std::string(32, 'a')}, {"b.safetensors", 7, std::string(32, '0')}};
  manifest.tensors = {{"w", TensorKind::weight, "F32", {2, 3}, {{0, 0, 4}, {1, 4, 6}}},
                      {"w", TensorKind::exp_avg, "F32", {2, 3}, {{1, 0, 6}}}};
  manifest.config = "run:\n  name: \"x\"\n";
  manifest.data = {{"epoch", 1}, {"fingerprint", "ff"}};
  manifest.trainer = {{"losses", {0.1, 2.5}}};
  return manifest;
}

TEST(ManifestFile, RoundTripIsExact) {
  const Manifest manifest = small_manifest();
  const std::string text = print_manifest(manifest);
  EXPECT_EQ(parse_manifest(text, "m"), manifest);
  EXPECT_EQ(stored_name(manifest.tensors[1]), "exp_avg/w");
  EXPECT_EQ(stored_shape(manifest.tensors[0], {0, 0, 4}), std::vector<std::int64_t>{4});
  EXPECT_EQ(stored_shape(manifest.tensors[1], {1, 0, 6}), (std::vector<std::int64_t>{2, 3}));
}

TEST(ManifestFile, AnyChangedOrMissingByteIsNoticed) {
  const std::string text = print_manifest(small_manifest());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_THROW(parse_manifest(bad, "m"), CheckpointError) << i;
    EXPECT_THROW(parse_manifest(text.substr(0, i), "m"), CheckpointError) << i;
  }
}

TEST(ManifestFile, RefusesWhatDoesNotFit) {
  struct Case {
    const char* reason;
    std::function<void(Json&)> change;
  };
  const std::vector<Case> cases = {
      {"version 2 is unknown", [](Json& m) { m["version"] = 2; }},
      {"'step' is missing", [](Json& m) { m.erase("step"); }},
      {"unknown key 'more'", [](Json& m) { m["more"] = 1; }},
      {"'step' must be a whole number", [](Json& m) { m["step"] = -1; }},
      {"'step' must be a whole number", [](Json& m) { m["step"] = 1.5; }},
      {"'world_size' must be", [](Json& m) { m["world_size"] = 0; }},
      {"'data' must be an object", [](Json& m) { m["data"] = 3; }},
      {"'config' must be a string", [](Json& m) { m["config"] = nullptr; }},
      {"'files' must be a list", [](Json& m) { m["files"] = "x"; }},
      {"'files[1].checksum' must be", [](Json& m) { m["files"][1]["checksum"] = "xyz"; }},
      {"'../a' is not a plain file name", [](Json& m) { m["files"][0]["name"] = "../a"; }},
      {"'/etc/x' is not", [](Json& m) { m["files"][0]["name"] = "/etc/x"; }},
      {"'..' is not", [](Json& m) { m["files"][0]["name"] = ".."; }},
      {"'manifest.json' is not", [](Json& m) { m["files"][0]["name"] = "manifest.json"; }},
      {"'b.safetensors' stands twice", [](Json& m) { m["files"][0]["name"] = "b.safetensors"; }},
      {"'tensors[0].kind' must be one of", [](Json& m) { m["tensors"][0]["kind"] = "momentum"; }},
      {"tensor 'w' stands twice", [](Json& m) { m["tensors"][1]["kind"] = "weight"; }},
      {"unknown dtype", [](Json& m) { m["tensors"][0]["dtype"] = "F33"; }},
      {"'tensors[0].shape' must be a list whose items are each a whole number from 1",
       [](Json& m) { m["tensors"][0]["shape"][0] = 0; }},
      {"impossible shape",
       [](Json& m) {
         m["tensors"][0]["shape"] = {1LL << 40, 1LL << 40};
       }},
      {"at most 16 dimensions", [](Json& m) { m["tensors"][0]["shape"] = std::vector<int>(17, 1); }},
      {"names file 2 of 2", [](Json& m) { m["tensors"][0]["ranges"][1][0] = 2; }},
      {"two ranges in file 0", [](Json& m) { m["tensors"][0]["ranges"][1][0] = 0; }},
      {"gap at element 4", [](Json& m) { m["tensors"][0]["ranges"][1][1] = 5; }},
      {"overlapping ranges at element 3", [](Json& m) { m["tensors"][0]["ranges"][1][1] = 3; }},
      {"up to element 7 of 6", [](Json& m) { m["tensors"][0]["ranges"][1][2] = 7; }},
      {"empty range", [](Json& m) { m["tensors"][0]["ranges"][1][2] = 4; }},
      {"[file, begin, end]",
       [](Json& m) {
         m["tensors"][0]["ranges"][1] = {1, 2};
       }},
  };
  const Json good = parse_json(print_manifest(small_manifest()), "m");
  EXPECT_EQ(read_manifest(good, "m"), small_manifest());
  for (const Case& one : cases) {
    Json bad = good;
    one.change(bad);
    EXPECT_TRUE(contains(error_text<CheckpointError>([&] { read_manifest(bad, "m.json"); }), one.reason));
  }
  EXPECT_THROW(read_manifest(Json(3), "m"), CheckpointError);
  Manifest broken = small_manifest();
  broken.tensors[0].ranges.pop_back();
  EXPECT_THROW(print_manifest(broken), CheckFailure);
}

// Writes the files of a small checkpoint whose bytes depend on `fill`, and returns its manifest.
Manifest fill_in(const PendingCheckpoint& pending, std::int64_t step, char fill) {
  Manifest manifest;
  manifest.step = step;
  manifest.config = std::string(1, fill);
  SafetensorsWriter model(pending.file("model.safetensors"), {{"w", "U8", {2, 4}, 0, 0}});
  model.write("w", bytes_of(std::string(8, fill)));
  SafetensorsWriter optimizer(pending.file("optimizer.safetensors"), {{"exp_avg/w", "U8", {2, 4}, 0, 0}});
  optimizer.write("exp_avg/w", bytes_of(std::string(8, fill)));
  manifest.files = {model.close(), optimizer.close()};
  manifest.tensors = {{"w", TensorKind::weight, "U8", {2, 4}, {{0, 0, 8}}},
                      {"w", TensorKind::exp_avg, "U8", {2, 4}, {{1, 0, 8}}}};
  return manifest;
}

fs::path save(const fs::path& root, std::int64_t step, char fill, const CommitObserver& observer = {}) {
  PendingCheckpoint pending(root, step);
  return pending.commit(fill_in(pending, step, fill), observer);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void flip_bit(const fs::path& path, std::size_t offset_from_end) {
  std::string bytes = read_file(path, 1 << 20);
  bytes[bytes.size() - offset_from_end] = static_cast<char>(bytes[bytes.size() - offset_from_end] ^ 4);
  OutputFile(path, OutputFile::Mode::truncate).write(bytes);
}

TEST(Commit, PublishesAndFindsTheNewest) {
  const TemporaryFolder folder;
  const fs::path root = folder.path() / "checkpoints";
  EXPECT_FALSE(find_newest_checkpoint(root).folder);
  save(root, 9, 'a');
  const fs::path newest = save(root, 10, 'b');
  EXPECT_EQ(names_in(root), (std::vector<std::string>{"latest", "step-10", "step-9"}));
  EXPECT_EQ(read_file(root / "latest", 100), "step-10\n");
  const FoundCheckpoint found = find_newest_checkpoint(root, CheckpointCheck::checksums);
  EXPECT_EQ(found.folder, newest);
  EXPECT_EQ(found.manifest.config, "b");
  EXPECT_TRUE(found.skipped.empty());
  EXPECT_EQ(verify_checkpoint(newest), found.manifest);
}

TEST(Commit, WithoutCommitNothingStays) {
  const TemporaryFolder folder;
  {
    PendingCheckpoint pending(folder.path(), 1);
    fill_in(pending, 1, 'a');
    EXPECT_THROW(pending.file("../x"), CheckFailure);
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
  PendingCheckpoint pending(folder.path(), 1);
  Manifest manifest = fill_in(pending, 1, 'a');
  manifest.files[0].bytes += 1;
  EXPECT_THROW(pending.commit(manifest), CheckFailure);
  write_file_atomic(folder.path() / "file", "");
  EXPECT_THROW(PendingCheckpoint(folder.path() / "file", 1), DiskError);
}

TEST(Commit, SavingAStepAgainReplacesIt) {
  const TemporaryFolder folder;
  save(folder.path(), 5, 'a');
  const fs::path again = save(folder.path(), 5, 'b');
  EXPECT_EQ(verify_checkpoint(again).config, "b");
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"latest", "step-5"}));
  fs::remove(again / kManifestName);  // a broken checkpoint is replaced, too
  EXPECT_EQ(verify_checkpoint(save(folder.path(), 5, 'c')).config, "c");
}

// Dies as by kill -9 at the given moment of saving `step`.
void save_and_die(const fs::path& root, std::int64_t step, CommitStep moment) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    save(root, step, 'b', [&](CommitStep reached) {
      if (reached == moment) _exit(0);
    });
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
}

TEST(Commit, DeathAtEveryMomentLeavesACompleteCheckpoint) {
  for (const std::int64_t step : {1, 2}) {  // the same step again, then a later one
    for (int moment = 0; moment <= static_cast<int>(CommitStep::done); ++moment) {
      const TemporaryFolder folder;
      save(folder.path(), 1, 'a');
      save_and_die(folder.path(), step, static_cast<CommitStep>(moment));
      FoundCheckpoint found = find_newest_checkpoint(folder.path(), CheckpointCheck::checksums);
      ASSERT_TRUE(found.folder) << moment;
      const bool published = moment >= static_cast<int>(CommitStep::renamed);
      EXPECT_EQ(found.manifest.config, published ? "b" : "a") << moment;
      EXPECT_TRUE(found.skipped.empty());
      const SweptTemporaries swept = sweep_temporaries(folder.path());
      const bool only_rename_missing = moment == static_cast<int>(CommitStep::manifest_written) && step == 2;
      EXPECT_EQ(swept.rescued.size(), only_rename_missing ? 1u : 0u);
      found = find_newest_checkpoint(folder.path(), CheckpointCheck::checksums);
      EXPECT_EQ(found.manifest.config, published || only_rename_missing ? "b" : "a") << moment;
      for (const std::string& name : names_in(folder.path())) {
        EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
      }
    }
  }
}

TEST(Commit, BrokenCheckpointsAreSkippedByName) {
  const TemporaryFolder folder;
  for (std::int64_t step = 1; step <= 6; ++step) save(folder.path(), step, 'a');
  const fs::path& root = folder.path();
  fs::remove(root / "step-2" / kManifestName);
  flip_bit(root / "step-3" / "model.safetensors", 3);
  fs::resize_file(root / "step-4" / "optimizer.safetensors", 20);
  fs::remove(root / "step-5" / "model.safetensors");
  flip_bit(root / "step-6" / kManifestName, 60);
  fs::create_directory(root / "step-9.tmp-1-2");
  fs::create_directory(root / "step-007");
  const FoundCheckpoint by_size = find_newest_checkpoint(root);
  EXPECT_EQ(by_size.folder, root / "step-3");
  const FoundCheckpoint found = find_newest_checkpoint(root, CheckpointCheck::checksums);
  EXPECT_EQ(found.folder, root / "step-1");
  ASSERT_EQ(found.skipped.size(), 5u);
  EXPECT_TRUE(contains(found.skipped[0].reason, "step-6/manifest.json"));
  EXPECT_TRUE(contains(found.skipped[0].reason, "cut or changed"));
  EXPECT_TRUE(contains(found.skipped[1].reason, "step-5/model.safetensors' is missing"));
  EXPECT_TRUE(contains(found.skipped[2].reason, "step-4/optimizer.safetensors' must have"));
  EXPECT_TRUE(contains(found.skipped[3].reason, "step-3/model.safetensors] the bytes must have the checksum"));
  EXPECT_TRUE(contains(found.skipped[4].reason, "not a complete checkpoint"));
}

TEST(Commit, RefusesLinksForeignStepsAndHeadersThatDisagree) {
  const TemporaryFolder folder;
  const fs::path& root = folder.path();
  save(root, 1, 'a');
  fs::rename(root / "step-1", root / "step-2");
  EXPECT_TRUE(contains(find_newest_checkpoint(root).skipped.at(0).reason, "manifest is of step 1"));
  fs::rename(root / "step-2" / "model.safetensors", root / "elsewhere");
  fs::create_symlink(root / "elsewhere", root / "step-2" / "model.safetensors");
  EXPECT_TRUE(contains(error_text<CheckpointError>([&] { open_checkpoint(root / "step-2"); }), "not a regular"));
  PendingCheckpoint pending(root, 3);
  Manifest manifest = fill_in(pending, 3, 'a');
  manifest.tensors[0].dtype = "I8";
  const fs::path third = pending.commit(manifest);
  EXPECT_TRUE(contains(error_text<CheckpointError>([&] { verify_checkpoint(third); }), "'w' must be there"));
  EXPECT_THROW(open_checkpoint(root / "missing"), CheckpointError);
}

TEST(Commit, SweepTouchesNothingElseAndRemoveRemoves) {
  const TemporaryFolder folder;
  const fs::path& root = folder.path();
  save(root, 1, 'a');
  fs::create_directories(root / "step-2.tmp-9" / "deep");
  write_file_atomic(root / "latest.tmp-1-0", "");
  write_file_atomic(root / "notes.tmp-1", "");
  const SweptTemporaries swept = sweep_temporaries(root);
  EXPECT_EQ(swept.removed, (std::vector<std::string>{"latest.tmp-1-0", "step-2.tmp-9"}));
  EXPECT_EQ(names_in(root), (std::vector<std::string>{"latest", "notes.tmp-1", "step-1"}));
  remove_checkpoint(root / "step-1");
  EXPECT_FALSE(fs::exists(root / "step-1"));
  EXPECT_TRUE(sweep_temporaries(root / "missing").removed.empty());
}

}  // namespace

}  // namespace norma
