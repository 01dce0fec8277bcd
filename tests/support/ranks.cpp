#include "support/ranks.h"

#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/file.h"

#include "support/fixtures.h"

namespace norma::testing {
namespace {

constexpr std::uint64_t kMaxResult = std::uint64_t{1} << 30;

std::map<std::string, Worker>& workers() {
  static std::map<std::string, Worker> all;
  return all;
}

pid_t start_rank(int rank, int world, int port, const std::string& worker, const std::string& folder) {
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("cannot fork");
  if (pid > 0) return pid;
  for (const auto& [name, value] : rank_environment(rank, world, port)) setenv(name.c_str(), value.c_str(), 1);
  setenv("NORMA_TEST_WORKER", worker.c_str(), 1);
  setenv("NORMA_TEST_FOLDER", folder.c_str(), 1);
  const std::string errors = cat(folder, "/error-", rank);
  dup2(open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
  execl("/proc/self/exe", "worker", nullptr);
  _exit(127);
}

std::string text_of(const std::string& path) {
  return fs::exists(path) ? read_file(path, kMaxResult) : "";
}

}  // namespace

bool register_worker(const std::string& name, Worker worker) {
  return workers().emplace(name, std::move(worker)).second;
}

bool run_as_worker(int& exit_code) {
  const char* const name = std::getenv("NORMA_TEST_WORKER");
  if (name == nullptr) return false;
  const std::string folder = std::getenv("NORMA_TEST_FOLDER"), rank = std::getenv("RANK");
  try {
    const Json argument = parse_json(read_file(folder + "/argument", kMaxResult), "argument");
    const Json result = workers().at(name)(argument);
    std::ofstream(folder + "/result-" + rank) << result.dump();
    exit_code = 0;
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    exit_code = static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    exit_code = 1;
  }
  return true;
}

std::vector<RankResult> run_ranks(int world, const std::string& worker, const Json& argument) {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  std::ofstream(path + "/argument") << argument.dump();
  const ReservedPort port;
  std::vector<pid_t> pids;
  for (int rank = 0; rank < world; ++rank) pids.push_back(start_rank(rank, world, port.number(), worker, path));
  std::vector<RankResult> results(static_cast<std::size_t>(world));
  for (int rank = 0; rank < world; ++rank) {
    RankResult& result = results[static_cast<std::size_t>(rank)];
    int status = 0;
    waitpid(pids[static_cast<std::size_t>(rank)], &status, 0);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.error = text_of(cat(path, "/error-", rank));
    const std::string text = text_of(cat(path, "/result-", rank));
    if (!text.empty()) result.result = parse_json(text, "result");
  }
  return results;
}

ReservedPort::ReservedPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;  // any address, and port 0: the system chooses one
  socklen_t length = sizeof address;
  const int yes = 1;
  const bool bound = setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                     bind(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  if (!bound) {
    close(socket_);
    throw std::runtime_error("no free port");
  }
  number_ = ntohs(address.sin_port);
}

ReservedPort::~ReservedPort() {
  close(socket_);
}

std::vector<std::pair<std::string, std::string>> rank_environment(int rank, int world, int port) {
  return {{"RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(world)},
          {"LOCAL_RANK", std::to_string(rank)},
          {"LOCAL_WORLD_SIZE", std::to_string(world)},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)},
          {"OMP_NUM_THREADS", "1"}};
}

}  // namespace norma::testing
