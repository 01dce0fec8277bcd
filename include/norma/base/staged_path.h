// A file or a folder under a temporary name until it is complete.
#pragma once

#include <string>

#include "norma/base/file.h"

namespace norma {

// Hexadecimal digits that no other process draws.
std::string unique_suffix();

// "runs/a/" and "runs/a" name the same place; this is the second.
fs::path without_slash(const fs::path& path);

class StagedPath {
 public:
  // `room` names the caller in errors. Nothing is made yet.
  StagedPath(const fs::path& target, std::string room);
  ~StagedPath();  // removes what was not published
  StagedPath(const StagedPath&) = delete;
  StagedPath& operator=(const StagedPath&) = delete;

  const fs::path& path() const { return path_; }  // beside the target
  // Makes it a folder, and those above it. Throws DiskError.
  void make_folder() const;
  // Puts it in the target's place, which may hold a file, or for a folder an empty folder. Throws DiskError.
  void publish();

 private:
  fs::path target_, path_;
  std::string room_;
};

}  // namespace norma
