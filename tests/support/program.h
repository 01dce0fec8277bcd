// Runs the program as a user would.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace norma::testing {

struct ProgramResult {
  int exit_code = -1;
  std::string out;  // standard output
  std::string err;  // standard error
};

using Environment = std::vector<std::pair<std::string, std::string>>;  // variables added to the test's own

// Runs build/norma with the arguments (no shell) and waits for its end.
ProgramResult run_norma(const std::vector<std::string>& arguments);

// A running program that can be sent signals.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const Environment& environment = {});
  // Runs another program than build/norma.
  Program(const std::string& program, const std::vector<std::string>& arguments, const Environment& environment);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void send(int signal) const;
  // Waits until standard error holds `text`; false when the program ends without it.
  bool wait_for(const std::string& text);
  ProgramResult wait();
  // Processes that this one has started and that run the program at `path`.
  std::vector<int> children_running(const std::filesystem::path& path) const;

 private:
  std::filesystem::path out_, err_;
  int pid_ = -1;
};

// Writes token ids as a raw uint16 file. They follow a pattern that a model can learn.
void write_tokens(const std::filesystem::path& path, std::int64_t count, std::int64_t vocab_size);

}  // namespace norma::testing
