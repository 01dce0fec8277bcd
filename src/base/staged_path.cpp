#include "norma/base/staged_path.h"

#include <system_error>

#include <unistd.h>

#include "norma/base/error.h"

namespace norma {
namespace {

// "runs/a/" and "runs/a" name the same place; a temporary name must lie beside it, not in it.
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

StagedPath::StagedPath(const fs::path& target, std::string room)
    : target_(without_slash(target)), path_(cat(target_.string(), ".tmp-", getpid())), room_(std::move(room)) {}

StagedPath::~StagedPath() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void StagedPath::publish() {
  std::error_code error;
  fs::rename(path_, target_, error);
  if (error) throw DiskError(cat("[", room_, "] cannot put ", target_.string(), " in place: ", error.message()));
  sync_folder(target_.has_parent_path() ? target_.parent_path() : fs::path("."));
}

}  // namespace norma
