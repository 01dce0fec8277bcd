// How a checkpoint becomes visible as a whole or not at all, and how a good one is found again.
//
// A checkpoint lies in <root>/step-N/. It is written into <root>/step-N.tmp-<unique>/: the files first (each
// fsynced by its writer), manifest.json last, then the folder is renamed, its parent synced and the file
// <root>/latest pointed at it. A folder counts only when its manifest and its files agree, so that whatever
// moment a process dies at leaves the checkpoints before it untouched.
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
// into it; after a barrier that rank commits. Without commit() the folder is removed when the object goes.
class PendingCheckpoint {
 public:
  // Creates `root` when it is missing. Throws DiskError.
  PendingCheckpoint(const fs::path& root, std::int64_t step);
  ~PendingCheckpoint();
  PendingCheckpoint(const PendingCheckpoint&) = delete;
  PendingCheckpoint& operator=(const PendingCheckpoint&) = delete;

  const fs::path& folder() const { return folder_; }
  fs::path file(const std::string& name) const;  // name: as is_plain_file_name

  // Publishes the checkpoint and returns its final folder. One of the same step that stands there already is
  // swapped out in one go where the file system can (else the new one is put in place right after the old one
  // moved aside, and sweep_temporaries() repairs a death in between). Throws DiskError; files that are
  // missing or not of the size that the manifest says are a CheckFailure.
  fs::path commit(const Manifest& manifest, const CommitObserver& observer = {});

 private:
  void put_in_place(const fs::path& target);

  fs::path root_;
  fs::path folder_;
  std::int64_t step_;
  bool committed_ = false;
};

// How closely a checkpoint is looked at: that its files exist in the right size, or also every byte of them.
enum class CheckpointCheck { sizes, checksums };

// Reads the manifest and compares the files' sizes. Throws CheckpointError naming the file.
Manifest open_checkpoint(const fs::path& folder);

// As open_checkpoint, then compares every file's checksum, and the header of every safetensors file with the
// manifest's tensors. Throws CheckpointError naming the file.
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

// The checkpoint of the highest step that stands the check. A root that does not exist holds none.
FoundCheckpoint find_newest_checkpoint(const fs::path& root, CheckpointCheck check = CheckpointCheck::sizes);

// Removes a checkpoint, its manifest first, so that it stops counting at once. Throws DiskError.
void remove_checkpoint(const fs::path& folder);

struct SweptTemporaries {
  std::vector<std::string> removed;
  std::vector<std::string> rescued;  // complete, and only the rename was missing: now in their place
};

// Clears <root> of what processes that died left behind. Only for a start-up, while nobody else writes there.
SweptTemporaries sweep_temporaries(const fs::path& root);

}  // namespace norma
