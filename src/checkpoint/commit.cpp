#include "norma/checkpoint/commit.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/record/run_folder.h"

namespace norma {

namespace {

std::string reason_of(int code) {
  return std::generic_category().message(code);
}

// Names in a folder, sorted; none when the folder does not exist. Any other error is thrown as a Failure.
template <class Failure>
std::vector<std::string> list_names(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw Failure(cat("[checkpoint] cannot list '", folder.string(), "': ", error.message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw DiskError(cat("[checkpoint] cannot remove '", path.string(), "': ", error.message()));
}

void rename_folder(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  const int code = errno;
  throw DiskError(cat("[checkpoint] cannot rename '", from.string(), "' to '", to.string(), "': ", reason_of(code)));
}

// Swaps two folders in one go. False where the file system cannot.
bool exchange_folders(const fs::path& a, const fs::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  const int code = errno;
  if (code == EINVAL || code == ENOSYS || code == EOPNOTSUPP) return false;
  throw DiskError(cat("[checkpoint] cannot exchange '", a.string(), "' and '", b.string(), "': ", reason_of(code)));
}

// Size of a regular file; nullopt for anything else, a symbolic link included.
std::optional<std::uint64_t> size_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(path, error)) || error) return std::nullopt;
  const std::uint64_t size = fs::file_size(path, error);
  return error ? std::nullopt : std::optional(size);
}

// Says which file is missing or has the wrong size; "" when all is well.
std::string problem_of_files(const fs::path& folder, const Manifest& manifest) {
  for (const FileEntry& file : manifest.files) {
    const fs::path path = folder / file.name;
    const auto size = size_of(path);
    if (!size) return cat("'", path.string(), "' is missing or not a regular file");
    if (*size != file.bytes) {
      return cat("'", path.string(), "' must have ", file.bytes, " bytes; got ", *size);
    }
  }
  return "";
}

void verify_checksum(const fs::path& path, const FileEntry& file) {
  const std::string got = [&] {
    try {
      return checksum(MappedFile(path).bytes());
    } catch (const DataError& error) {
      throw CheckpointError(error.what());
    }
  }();
  if (got != file.checksum) {
    throw CheckpointError(cat("[", path.string(), "] the bytes must have the checksum ", file.checksum, "; got ", got,
                              ": the file is damaged"));
  }
}

// Every range must be in its file as the manifest says.
void verify_ranges(const fs::path& folder, const Manifest& manifest) {
  std::vector<std::vector<std::pair<const TensorEntry*, const TensorRange*>>> per_file(manifest.files.size());
  for (const TensorEntry& tensor : manifest.tensors) {
    for (const TensorRange& range : tensor.ranges) {
      per_file[static_cast<std::size_t>(range.file)].emplace_back(&tensor, &range);
    }
  }
  for (std::size_t i = 0; i < per_file.size(); ++i) {
    if (per_file[i].empty()) continue;
    const fs::path path = folder / manifest.files[i].name;
    const SafetensorsFile file(path);
    for (const auto& [tensor, range] : per_file[i]) {
      const TensorInfo* stored = file.find(stored_name(*tensor));
      if (stored == nullptr || stored->dtype != tensor->dtype || stored->shape != stored_shape(*tensor, *range)) {
        throw CheckpointError(cat("[", path.string(), "] '", stored_name(*tensor),
                                  "' must be there with the dtype and shape that the manifest says"));
      }
    }
  }
}

bool is_complete(const fs::path& folder) {
  try {
    open_checkpoint(folder);
    return true;
  } catch (const CheckpointError&) {
    return false;
  }
}

}  // namespace

PendingCheckpoint::PendingCheckpoint(const fs::path& root, std::int64_t step) : root_(root), step_(step) {
  NORMA_CHECK(step >= 0, "[checkpoint] a step must not be negative; got ", step);
  std::error_code error;
  fs::create_directories(root, error);
  if (error) throw DiskError(cat("[checkpoint] cannot make '", root.string(), "': ", error.message()));
  folder_ = temporary_beside(root / checkpoint_name(step));
  const bool made = fs::create_directory(folder_, error);
  if (error) throw DiskError(cat("[checkpoint] cannot make '", folder_.string(), "': ", error.message()));
  NORMA_CHECK(made, "[checkpoint] '", folder_.string(), "' exists already");
}

PendingCheckpoint::~PendingCheckpoint() {
  std::error_code unreported;  // the start-up sweep removes what stays behind
  if (!committed_) fs::remove_all(folder_, unreported);
}

fs::path PendingCheckpoint::file(const std::string& name) const {
  NORMA_CHECK(is_plain_file_name(name), "[checkpoint] '", name, "' is not a plain file name");
  return folder_ / name;
}

void PendingCheckpoint::put_in_place(const fs::path& target) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(target, error))) {
    rename_folder(folder_, target);
    return;
  }
  if (exchange_folders(folder_, target)) return;  // the old one now has the temporary name
  const fs::path aside = temporary_beside(root_ / checkpoint_name(step_));
  rename_folder(target, aside);
  rename_folder(folder_, target);
  rename_folder(aside, folder_);
}

fs::path PendingCheckpoint::commit(const Manifest& manifest, const CommitObserver& observer) {
  const auto reached = [&](CommitStep step) {
    if (observer) observer(step);
  };
  NORMA_CHECK(!committed_, "[checkpoint] '", folder_.string(), "' is committed already");
  NORMA_CHECK(manifest.step == step_, "[checkpoint] the manifest is of step ", manifest.step, ", not ", step_);
  const std::string problem = problem_of_files(folder_, manifest);
  NORMA_CHECK(problem.empty(), "[checkpoint] ", problem);
  sync_folder(folder_);
  reached(CommitStep::files_checked);
  write_file_atomic(folder_ / kManifestName, print_manifest(manifest));
  reached(CommitStep::manifest_written);
  const fs::path target = root_ / checkpoint_name(step_);
  put_in_place(target);
  committed_ = true;
  sync_folder(root_);
  reached(CommitStep::renamed);
  write_file_atomic(root_ / kLatestFile, checkpoint_name(step_) + "\n");
  reached(CommitStep::latest_updated);
  std::error_code error;
  if (fs::exists(folder_, error)) remove_checkpoint(folder_);  // the one that was replaced
  reached(CommitStep::done);
  return target;
}

Manifest open_checkpoint(const fs::path& folder) {
  const fs::path path = folder / kManifestName;
  if (!size_of(path)) {
    throw CheckpointError(cat("[checkpoint] '", folder.string(), "' must be a folder that holds ", kManifestName,
                              "; it has none, so it is not a complete checkpoint"));
  }
  std::string text;
  try {
    text = read_file(path, kMaxManifestBytes);
  } catch (const DataError& error) {
    throw CheckpointError(error.what());
  }
  Manifest manifest = parse_manifest(text, path.string());
  const std::string problem = problem_of_files(folder, manifest);
  if (!problem.empty()) throw CheckpointError("[checkpoint] " + problem);
  return manifest;
}

Manifest verify_checkpoint(const fs::path& folder) {
  Manifest manifest = open_checkpoint(folder);
  for (const FileEntry& file : manifest.files) verify_checksum(folder / file.name, file);
  verify_ranges(folder, manifest);
  return manifest;
}

FoundCheckpoint find_newest_checkpoint(const fs::path& root, CheckpointCheck check) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : list_names<CheckpointError>(root)) {
    if (const auto step = step_of_checkpoint(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  FoundCheckpoint found;
  for (const std::int64_t step : steps) {
    const fs::path folder = root / checkpoint_name(step);
    try {
      Manifest manifest = check == CheckpointCheck::checksums ? verify_checkpoint(folder) : open_checkpoint(folder);
      if (manifest.step != step) {
        throw CheckpointError(cat("[", folder.string(), "] the manifest is of step ", manifest.step));
      }
      found.folder = folder;
      found.manifest = std::move(manifest);
      return found;
    } catch (const CheckpointError& error) {
      found.skipped.push_back({folder.string(), error.what()});
    }
  }
  return found;
}

fs::path find_checkpoint(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path / kManifestName, error)) return path;
  if (error) throw CheckpointError(cat("[checkpoint] cannot look into ", path.string(), ": ", error.message()));
  if (!fs::is_directory(path, error)) {
    throw CheckpointError(
        cat("[checkpoint] ", path.string(), " is not a folder; give a run folder or a step-N folder"));
  }
  const FoundCheckpoint found = find_newest_checkpoint(path);
  if (found.folder) return *found.folder;
  std::string text = cat("[checkpoint] ", path.string(), " holds no complete checkpoint");
  for (const SkippedCheckpoint& skipped : found.skipped) text += cat("; ", skipped.folder, ": ", skipped.reason);
  throw CheckpointError(text);
}

void remove_checkpoint(const fs::path& folder) {
  const fs::path manifest = folder / kManifestName;
  if (::unlink(manifest.c_str()) == 0) {
    sync_folder(folder);
  } else if (const int code = errno; code != ENOENT) {
    throw DiskError(cat("[checkpoint] cannot remove '", manifest.string(), "': ", reason_of(code)));
  }
  remove_tree(folder);
}

SweptTemporaries sweep_temporaries(const fs::path& root) {
  SweptTemporaries swept;
  for (const std::string& name : list_names<DiskError>(root)) {
    const std::size_t suffix = name.find(kTemporaryMark);
    if (suffix == std::string::npos) continue;
    const std::string stem = name.substr(0, suffix);
    const fs::path path = root / name;
    const auto step = step_of_checkpoint(stem);
    if (step && !is_complete(root / stem) && is_complete(path)) {
      remove_tree(root / stem);  // a broken one of the same step, or nothing
      rename_folder(path, root / stem);
      sync_folder(root);
      swept.rescued.push_back(stem);
    } else if (step || stem == kLatestFile) {
      remove_tree(path);
      swept.removed.push_back(name);
    }
  }
  return swept;
}

}  // namespace norma
