// The Python files of src/interop/hf/, which are compiled into the program. They are written into the folder of a model
// that no class of transformers can express.
#pragma once

#include <string_view>
#include <vector>

namespace norma {

struct RemoteCodeFile {
  std::string_view name, text;
};

const std::vector<RemoteCodeFile>& remote_code();

}  // namespace norma
