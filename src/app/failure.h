// An exception as the program's user meets it: text and exit code.
#pragma once

#include <exception>
#include <string>

#include "norma/base/error.h"

namespace norma {

struct Failure {
  ExitCode code = ExitCode::internal;
  std::string text;
};

Failure describe_failure(const std::exception_ptr& exception);

// Where torchrun looks for the reason of a worker's failure; nothing when `path` is empty or cannot be written.
void write_error_file(const std::string& path, const std::string& text);

}  // namespace norma
