// Threads for work outside of LibTorch (tokenizing, drawing weights). LibTorch has its own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace norma {

// The number of cores that this process may use, by its affinity and its cgroup's limits; at least 1.
int available_cores();

// A fixed set of workers and one queue.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();  // runs what is queued first
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()); }

  // The future carries the result or the exception.
  template <class F>
  auto submit(F work) -> std::future<decltype(work())> {
    auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
    auto result = task->get_future();
    enqueue([task] { (*task)(); });
    return result;
  }

 private:
  void enqueue(std::function<void()> work);
  void run();
  void stop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::queue<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

// Calls body(begin, end) for disjoint ranges that cover [0, n), on num_threads threads, the caller's included. Rethrows
// the first exception after all ranges have ended.
void parallel_ranges(std::int64_t n, int num_threads, const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace norma
