// The weight files of a Hugging Face folder: one safetensors file, or several with an index.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "norma/checkpoint/safetensors.h"

namespace norma {

class HfWeights {
 public:
  // Opens all files and checks the index against them. Throws DataError.
  explicit HfWeights(const fs::path& folder);

  const TensorInfo* find(const std::string& tensor) const;  // nullptr when there is none
  std::span<const std::byte> bytes(const std::string& tensor) const;
  std::vector<std::string> names() const;

 private:
  void open(const fs::path& file);
  void check_index(const fs::path& index);

  fs::path folder_;
  std::map<std::string, SafetensorsFile> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;
};

}  // namespace norma
