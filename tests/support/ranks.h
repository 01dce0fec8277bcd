// Several processes of one test, which talk over Gloo: the test executable starts itself once for each rank.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "norma/base/json.h"

namespace norma::testing {

// What a rank does. It learns its number from read_launch_environment(), and its result goes back to the test.
using Worker = std::function<Json(const Json& argument)>;

// At namespace scope: const bool kX = testing::register_worker("name", worker);
bool register_worker(const std::string& name, Worker worker);

// In main(), before anything else: runs the worker that the environment names; false when it names none.
bool run_as_worker(int& exit_code);

struct RankResult {
  int exit_code = -1;
  Json result;        // null when the worker did not return
  std::string error;  // its standard error
};

// Starts `world` processes, each with `argument`, and waits for all of them.
std::vector<RankResult> run_ranks(int world, const std::string& worker, const Json& argument);

// A port of this machine that the system gives to no other program while the object lives: it is bound, but not
// listened on. Rank 0's store may still listen on it, because both sockets set SO_REUSEADDR.
class ReservedPort {
 public:
  ReservedPort();
  ~ReservedPort();
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;
  int number() const { return number_; }

 private:
  int socket_ = -1, number_ = 0;
};

// The environment that torchrun would give `rank`, for a job whose rank 0 keeps the store on `port`.
std::vector<std::pair<std::string, std::string>> rank_environment(int rank, int world, int port);

}  // namespace norma::testing
