// A thread that learns of a peer's failure while the main thread is busy, and answers for it when a peer asks.
//
// The ranks talk through the store: "events" counts what has happened; "failure" is the text of the first failure; roll
// call n asks every rank to write "roll/n/<rank>". A process that was killed does not answer; one that hangs answers
// with what its main thread is doing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "norma/parallel/group.h"

#include "activity.h"

namespace norma {

// Why the job fails, and which rank failed.
struct RankFailure {
  int rank = -1;
  std::string text;
  std::string described() const { return cat("rank ", rank, ": ", text); }
};

class FailureWatch {
 public:
  FailureWatch(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, Seconds grace,
               std::shared_ptr<Activity> activity);
  ~FailureWatch();
  FailureWatch(const FailureWatch&) = delete;
  FailureWatch& operator=(const FailureWatch&) = delete;

  // The failure that some rank published, as far as the store or the watching thread know.
  std::optional<RankFailure> published();
  // Makes `text` the job's failure unless another rank was first; returns the failure that counts.
  RankFailure publish(const std::string& text);
  // Called when the main thread is about to end the process itself: the watching thread goes on answering but leaves
  // the end to it. If a store that does not answer keeps the main thread from that, the process ends with `text` after
  // a while.
  void stand_down(const std::string& text);
  // Which ranks do not answer, or else what the others are doing; "" when nothing can be said.
  std::string call_roll();

 private:
  void watch();
  void answer_calls();
  void end_when_late(const std::string& text);
  [[noreturn]] void end_process(const std::string& failure) const;

  c10::intrusive_ptr<c10d::Store> store_;  // for the main thread
  c10::intrusive_ptr<c10d::Store> own_;    // the watching thread's connection
  int rank_, size_;
  Seconds grace_;
  std::shared_ptr<Activity> activity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;             // guarded by mutex_
  std::optional<RankFailure> known_;  // guarded by mutex_: what the watching thread read
  std::atomic<bool> standing_down_{false};
  std::int64_t answered_ = 0;
  std::thread thread_, last_resort_;
};

}  // namespace norma
