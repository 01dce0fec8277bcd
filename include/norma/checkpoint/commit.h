// How a checkpoint becomes visible as a whole or not at all, and how a good one is found again.
//
// A checkpoint lies in <root>/step-N/. It is written into <root>/step-N.tmp-<unique>/: the files first (each
// fsynced by its writer), manifest.json last, then the folder is renamed, its parent synced and the file
// <root>/latest pointed at it. A folder counts only when its manifest and its files agree, so a process may die at any
// moment without harming an earlier checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/checkpoint/manifest.h"

namespace norma {

// Moments of a commit, in order. Tests stop a process at each of them.
enum class CommitStep { files_checked, manifest_written, renamed, latest_updated, done };
using CommitObserver = std::function<void(CommitStep)>;

// A checkpoint being written. One rank makes it and tells the others folder(); each rank writes its files
// into it; after a barrier that rank commits. Without commit() the folder is removed with the object.
class PendingCheckpoint {
 public:
  // Creates `root` when it is missing. Throws DiskError.
  PendingCheckpoint(const fs::path& root, std::int64_t step);
  ~PendingCheckpoint();
  PendingCheckpoint(const PendingCheckpoint&) = delete;
  PendingCheckpoint& operator=(const PendingCheckpoint&) = delete;

  const fs::path& folder() const { return folder_; }
  fs::path file(const std::string& name) const;  // name: as is_plain_file_name

  // Publishes the checkpoint and returns its final folder. An earlier checkpoint of the same step is replaced: in one
  // atomic exchange where the file system can do that, else by moving the old one aside first, and sweep_temporaries()
  // then repairs what a process leaves that dies in between. Throws DiskError. A file that is missing, or whose size
  // differs from the manifest's, is a CheckFailure.
  fs::path commit(const Manifest& manifest, const CommitObserver& observer = {});

 private:
  void put_in_place(const fs::path& target);

  fs::path root_;
  fs::path folder_;
  std::int64_t step_;
  bool committed_ = false;
};

// How closely a checkpoint is checked: whether its files exist in the right size, or also every byte of them.
enum class CheckpointCheck { sizes, checksums };

// Reads the manifest and compares the files' sizes. Throws CheckpointError naming the file.
Manifest open_checkpoint(const fs::path& folder);

// Does what open_checkpoint() does, then compares every file's checksum, and the header of every safetensors file with
// the manifest's tensors. Throws CheckpointError naming the file.
Manifest verify_checkpoint(const fs::path& folder);

struct SkippedCheckpoint {
  std::string folder;
  std::string reason;
};

struct FoundCheckpoint {
  std::optional<fs::path> folder;          // empty: there is none
  Manifest manifest;                       // of `folder`
  std::vector<SkippedCheckpoint> skipped;  // later ones that are broken
};

// The checkpoint of the highest step that passes the check. A root that does not exist holds none.
FoundCheckpoint find_newest_checkpoint(const fs::path& root, CheckpointCheck check = CheckpointCheck::sizes);

// `path` if it is a checkpoint's folder; else it is a run folder, and this is its newest complete checkpoint. Throws
// CheckpointError when there is none.
fs::path find_checkpoint(const fs::path& path);

// Removes a checkpoint, its manifest first, so that it stops counting at once. Throws DiskError.
void remove_checkpoint(const fs::path& folder);

struct SweptTemporaries {
  std::vector<std::string> removed;
  std::vector<std::string> rescued;  // complete ones that lacked only their final name, which they have now
};

// Removes what processes that died have left in <root>. Called at start-up, while nobody else writes there.
SweptTemporaries sweep_temporaries(const fs::path& root);

}  // namespace norma
