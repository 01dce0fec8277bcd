#include "support/program.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace norma::testing {
namespace {

namespace fs = std::filesystem;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

fs::path temporary_file() {
  std::string name = (fs::temp_directory_path() / "norma-out-XXXXXX").string();
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0) throw std::runtime_error("cannot make a temporary file");
  close(descriptor);
  return name;
}

int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const Environment& environment)
    : Program((fs::path(NORMA_BINARY_DIR) / "norma").string(), arguments, environment) {}

Program::Program(const std::string& program, const std::vector<std::string>& arguments, const Environment& environment)
    : out_(temporary_file()), err_(temporary_file()) {
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("cannot fork");
  if (pid_ == 0) {
    dup2(open(out_.c_str(), O_WRONLY | O_TRUNC), STDOUT_FILENO);
    dup2(open(err_.c_str(), O_WRONLY | O_TRUNC), STDERR_FILENO);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    execv(argv[0], argv.data());
    _exit(127);
  }
}

Program::~Program() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove(out_, ignored);
  fs::remove(err_, ignored);
}

void Program::send(int signal) const {
  kill(pid_, signal);
}

bool Program::wait_for(const std::string& text) {
  for (;;) {
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    const bool ended = info.si_pid == pid_;  // read before the text, so that the text is then complete
    if (contents(err_).find(text) != std::string::npos) return true;
    if (ended) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

std::vector<int> Program::children_running(const fs::path& path) const {
  std::vector<int> children;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid_) + "/task")) {
    std::ifstream list(entry.path() / "children");
    std::error_code gone;
    for (int child = 0; list >> child;) {
      if (fs::read_symlink("/proc/" + std::to_string(child) + "/exe", gone) == path) children.push_back(child);
    }
  }
  return children;
}

ProgramResult Program::wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return {exit_code_of(status), contents(out_), contents(err_)};
}

ProgramResult run_norma(const std::vector<std::string>& arguments) {
  return Program(arguments).wait();
}

void write_tokens(const fs::path& path, std::int64_t count, std::int64_t vocab_size) {
  std::ofstream file(path, std::ios::binary);
  std::uint64_t state = 12345;
  std::int64_t id = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto noise = static_cast<std::int64_t>(state >> 61);  // 0..7
    id = (id * 5 + 7 + (noise > 4 ? noise : 0)) % vocab_size;   // mostly a function of the id before
    const auto value = static_cast<std::uint16_t>(id);
    file.write(reinterpret_cast<const char*>(&value), sizeof value);
  }
}

}  // namespace norma::testing
