#include "norma/base/error.h"

#include <iterator>

namespace norma {

void throw_error(ExitCode code, const std::string& text) {
  switch (code) {
    case ExitCode::internal:
      throw CheckFailure(text);
    case ExitCode::usage:
      throw ConfigError(text);
    case ExitCode::data:
      throw DataError(text);
    case ExitCode::checkpoint:
      throw CheckpointError(text);
    case ExitCode::diverged:
      throw DivergedError(text);
    case ExitCode::collective:
      throw CollectiveError(text);
    case ExitCode::disk:
      throw DiskError(text);
    default:
      throw Error(code, text);
  }
}

void append(Problems& all, Problems more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace norma
