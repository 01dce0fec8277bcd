// The Python files of src/interop/hf/, part of the program: a folder of a placement that no stock class has carries
// them.
#pragma once

#include <string_view>
#include <vector>

namespace norma {

struct RemoteCodeFile {
  std::string_view name, text;
};

const std::vector<RemoteCodeFile>& remote_code();

}  // namespace norma
