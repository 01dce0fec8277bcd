#include "norma/base/staged_path.h"

#include <random>
#include <system_error>

#include "norma/base/error.h"

namespace norma {
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

std::string unique_suffix() {
  std::random_device random;
  std::string text;
  for (int i = 0; i < 2; ++i) text += cat(std::hex, random(), i == 0 ? "-" : "");
  return text;
}

StagedPath::StagedPath(const fs::path& target, std::string room)
    : target_(without_slash(target)), path_(cat(target_.string(), ".tmp-", unique_suffix())), room_(std::move(room)) {}

StagedPath::~StagedPath() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void StagedPath::make_folder() const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) throw DiskError(cat("[", room_, "] cannot make the folder ", path_.string(), ": ", error.message()));
}

void StagedPath::publish() {
  std::error_code error;
  fs::rename(path_, target_, error);
  if (error) throw DiskError(cat("[", room_, "] cannot put ", target_.string(), " in place: ", error.message()));
  sync_folder(target_.has_parent_path() ? target_.parent_path() : fs::path("."));
}

}  // namespace norma
