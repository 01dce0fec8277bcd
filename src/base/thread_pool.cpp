#include "norma/base/thread_pool.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include <sched.h>

#include "norma/base/text.h"

namespace norma {

namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<double> to_number(const std::string& text) {
  std::istringstream in(text);
  double value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// Quota in cores of one cgroup folder; no value when it sets no limit.
std::optional<double> quota_of(const std::string& folder) {
  std::string quota, period;
  std::istringstream both(first_line(folder + "/cpu.max"));  // version 2: "150000 100000" or "max 100000"
  if (!(both >> quota >> period)) {
    quota = first_line(folder + "/cpu.cfs_quota_us");  // version 1: -1 means no limit
    period = first_line(folder + "/cpu.cfs_period_us");
  }
  const auto top = to_number(quota), bottom = to_number(period);
  if (!top || !bottom || *top <= 0 || *bottom <= 0) return std::nullopt;
  return *top / *bottom;
}

// The tightest quota from this process's cgroup up to the root. Lines of /proc/self/cgroup: "0::/a/b"
// (version 2) or "4:cpu,cpuacct:/a/b" (version 1). Inside of a container the path may not exist; then its
// root tells.
double cgroup_cores() {
  double cores = std::numeric_limits<double>::infinity();
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto fields = split(line, ':');
    if (fields.size() < 3) continue;
    const auto controllers = split(fields[1], ',');
    const bool old = std::find(controllers.begin(), controllers.end(), "cpu") != controllers.end();
    if (!old && !fields[1].empty()) continue;
    const std::string root = old ? "/sys/fs/cgroup/" + fields[1] : "/sys/fs/cgroup";
    std::string path = fields[2];
    while (true) {
      if (const auto quota = quota_of(path == "/" ? root : root + path)) cores = std::min(cores, *quota);
      const std::size_t slash = path.rfind('/');
      if (path.empty() || slash == std::string::npos) break;
      path.erase(slash);
    }
  }
  return cores;
}

}  // namespace

int available_cores() {
  double cores = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) cores = CPU_COUNT(&allowed);
  // Part of a core is worth a thread: 1.5 cores run two threads better than one.
  cores = std::min(cores, std::max(1.0, std::ceil(cgroup_cores())));
  return std::max(1, static_cast<int>(cores));
}

ThreadPool::ThreadPool(int num_threads) {
  const int count = std::max(1, num_threads);
  workers_.reserve(static_cast<std::size_t>(count));
  try {
    for (int i = 0; i < count; ++i) workers_.emplace_back([this] { run(); });
  } catch (...) {
    stop();  // a thread that is not joined would end the program
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::enqueue(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push(std::move(work));
  }
  wake_.notify_one();
}

void ThreadPool::run() {
  while (true) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop();
    }
    work();  // a packaged task: exceptions go to its future
  }
}

void parallel_ranges(std::int64_t n, int num_threads, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (n <= 0) return;
  const std::int64_t parts = std::min<std::int64_t>(std::max(1, num_threads), n);
  std::mutex mutex;
  std::exception_ptr first_error;
  const auto run_part = [&](std::int64_t part) {
    try {
      const std::int64_t size = n / parts, longer = n % parts;  // the first `longer` parts hold one more
      const std::int64_t begin = part * size + std::min(part, longer);
      body(begin, begin + size + (part < longer ? 1 : 0));
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!first_error) first_error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;  // joined at the end of this block, also when starting one fails
    for (std::int64_t part = 1; part < parts; ++part) threads.emplace_back(run_part, part);
    run_part(0);
  }
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace norma
