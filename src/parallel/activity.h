// What the main thread is doing; the watching thread reads it when a peer asks.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "norma/base/text.h"

namespace norma {

class Activity {
 public:
  void set_step(std::int64_t step) {
    const std::lock_guard lock(mutex_);
    step_ = step;
    since_ = std::chrono::steady_clock::now();
  }
  std::int64_t step() const {
    const std::lock_guard lock(mutex_);
    return step_;
  }
  // The collective that is waited for; "" when the wait is over.
  void set_waiting(const std::string& collective) {
    const std::lock_guard lock(mutex_);
    waiting_ = collective;
    since_ = std::chrono::steady_clock::now();
  }
  struct Report {
    bool waits = false;  // for other ranks, in a collective
    std::string text;    // "waits at step 12 for the all-gather of blocks.3 since 4 s"
  };
  Report report() const {
    const std::lock_guard lock(mutex_);
    const auto seconds =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - since_).count();
    if (waiting_.empty())
      return {false, cat("is at step ", step_, ", outside of any collective, since ", seconds, " s")};
    return {true, cat("waits at step ", step_, " for ", waiting_, " since ", seconds, " s")};
  }

 private:
  mutable std::mutex mutex_;
  std::string waiting_;
  std::int64_t step_ = 0;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace norma
