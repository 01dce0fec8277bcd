// Errors that a user can cause or meet (they carry the exit code), checks of our own code, and problems of a config.
//
// Text of an error: "[where] what must hold; got ...; what is allowed". main() prints it and exits with exit_code().
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "norma/base/text.h"

namespace norma {

// Exit codes of the program, as documented in the README.
enum class ExitCode : int {
  done = 0,
  internal = 1,        // our bug
  usage = 2,           // usage, config, unknown task
  data = 3,            // token files, text, tokenizer, request files, foreign weights
  checkpoint = 4,      // a checkpoint that is missing, damaged or does not fit
  diverged = 5,        // loss or gradient is not finite
  collective = 6,      // a collective failed or a peer was lost
  memory = 7,          // out of memory
  disk = 8,            // a write failed: disk full, no permission
  stopped_early = 75,  // stopped by a signal with a good checkpoint: run again to go on
  interrupted = 130,   // ended by SIGINT without a checkpoint to go on from
  terminated = 143     // the same by SIGTERM
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ExitCode exit_code() const { return code_; }

 private:
  ExitCode code_;
};

struct ConfigError : Error {
  explicit ConfigError(const std::string& text) : Error(ExitCode::usage, text) {}
};
struct DataError : Error {
  explicit DataError(const std::string& text) : Error(ExitCode::data, text) {}
};
struct CheckpointError : Error {
  explicit CheckpointError(const std::string& text) : Error(ExitCode::checkpoint, text) {}
};
struct DivergedError : Error {
  explicit DivergedError(const std::string& text) : Error(ExitCode::diverged, text) {}
};
struct CollectiveError : Error {
  explicit CollectiveError(const std::string& text) : Error(ExitCode::collective, text) {}
};
struct DiskError : Error {
  explicit DiskError(const std::string& text) : Error(ExitCode::disk, text) {}
};

// A broken promise inside of Norma: a bug, never the user's input.
struct CheckFailure : Error {
  explicit CheckFailure(const std::string& text) : Error(ExitCode::internal, text) {}
};

// Throws the error above that carries this code; a plain Error for a code without a type of its own.
[[noreturn]] void throw_error(ExitCode code, const std::string& text);

// What a validator has to say about a config. Validators return lists; the app attaches file and line and reports all
// of them at once.
struct Problem {
  std::string key;   // dotted config key, "model.num_heads"; empty when the file as a whole is meant
  int line = 0;      // line in the file the value came from; 0 = unknown (the app looks it up by key)
  std::string text;  // what is wrong, and what is allowed

  std::string argument = {};  // the override that set the value, as typed; empty = none, or unknown (looked up by key)
};
using Problems = std::vector<Problem>;

void append(Problems& all, Problems more);

}  // namespace norma

// NORMA_CHECK(n > 0, "[layout] numel must be positive; got ", n) throws CheckFailure when the condition is false.
#define NORMA_CHECK(condition, ...)                                                  \
  do {                                                                               \
    if (!(condition)) [[unlikely]]                                                   \
      throw ::norma::CheckFailure(::norma::cat(__VA_ARGS__, " (", #condition, ")")); \
  } while (false)
