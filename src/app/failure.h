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

}  // namespace norma
