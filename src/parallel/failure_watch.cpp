#include "failure_watch.h"

#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/parallel/launch.h"

namespace norma {
namespace {

constexpr Seconds kPeriod{0.25};
constexpr Seconds kAnswerTime{2.0};
constexpr Seconds kSpareTime{5.0};  // after the grace time, in which the main thread may end the process itself

constexpr const char* kStoreLost = "the process that keeps the ranks together is lost (rank 0, or torchrun's agent)";

std::chrono::steady_clock::time_point later(Seconds seconds) {
  return std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(seconds);
}

std::string get_text(c10d::Store& store, const std::string& key) {
  return store.check({key}) ? store.get_to_str(key) : "";
}

// From "2 text", its form in the store.
RankFailure parse_failure(const std::string& stored) {
  const std::size_t space = stored.find(' ');
  return {static_cast<int>(std::strtol(stored.c_str(), nullptr, 10)),
          space == std::string::npos ? "" : stored.substr(space + 1)};
}

// A rank's answer to a roll call starts with one of these, then says what the rank is doing.
constexpr char kWaits = 'w', kWorks = '-';

}  // namespace

FailureWatch::FailureWatch(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, Seconds grace,
                           std::shared_ptr<Activity> activity)
    : store_(store), own_(store->clone()), rank_(rank), size_(size), grace_(grace), activity_(std::move(activity)) {
  thread_ = std::thread([this] { watch(); });
}

FailureWatch::~FailureWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  if (last_resort_.joinable()) last_resort_.join();
}

std::optional<RankFailure> FailureWatch::published() {
  {
    const std::lock_guard lock(mutex_);
    if (known_) return known_;
  }
  const std::string stored = get_text(*store_, "failure");
  return stored.empty() ? std::nullopt : std::optional<RankFailure>(parse_failure(stored));
}

void FailureWatch::stand_down(const std::string& text) {
  standing_down_ = true;
  last_resort_ = std::thread([this, text] { end_when_late(text); });
}

// Does not touch the store, which may be what hangs.
void FailureWatch::end_when_late(const std::string& text) {
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, grace_ + kAnswerTime + kSpareTime, [&] { return stopping_; })) return;
  end_process(text);
}

RankFailure FailureWatch::publish(const std::string& text) {
  const std::string stored = store_->compareSet("failure", "", cat(rank_, " ", text));
  store_->add("events", 1);
  return parse_failure(stored);
}

std::string FailureWatch::call_roll() {
  const std::int64_t call = store_->add("roll", 1);
  store_->add("events", 1);
  const auto key = [&](int rank) { return cat("roll/", call, "/", rank); };
  const auto end = std::chrono::steady_clock::now() + kAnswerTime;
  std::vector<std::string> answers(static_cast<std::size_t>(size_));
  int missing = size_;
  while (missing > 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    missing = 0;
    for (int r = 0; r < size_; ++r) {
      std::string& answer = answers[static_cast<std::size_t>(r)];
      if (answer.empty()) answer = get_text(*store_, key(r));
      if (answer.empty()) ++missing;
    }
  }
  std::vector<std::string> lost, elsewhere;
  for (int r = 0; r < size_; ++r) {
    const std::string& answer = answers[static_cast<std::size_t>(r)];
    if (answer.empty())
      lost.push_back(cat("rank ", r, " does not answer: it is lost"));
    else if (answer.front() != kWaits && r != rank_)
      elsewhere.push_back(cat("rank ", r, " ", answer.substr(1)));
  }
  const std::vector<std::string>& said = lost.empty() ? elsewhere : lost;
  constexpr std::size_t kMost = 8;
  if (said.size() > kMost) return join({said.begin(), said.begin() + kMost}, "; ") + "; and more";
  return join(said, "; ");
}

void FailureWatch::answer_calls() {
  const std::int64_t call = own_->add("roll", 0);
  for (; answered_ < call; ++answered_) {
    const Activity::Report report = activity_->report();
    own_->set(cat("roll/", answered_ + 1, "/", rank_), (report.waits ? kWaits : kWorks) + report.text);
  }
}

void FailureWatch::watch() {
  std::int64_t seen = 0;
  bool store_lost = false;
  auto end = std::chrono::steady_clock::time_point::max();  // of this process, once a failure is known
  while (true) {
    std::string failure;
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, kPeriod, [&] { return stopping_; })) return;
      failure = known_ ? known_->described() : store_lost ? kStoreLost : "";
    }
    // The main thread may know more about it: it has the grace time to say so.
    if (!failure.empty()) end = std::min(end, later(grace_));
    if (!standing_down_ && std::chrono::steady_clock::now() >= end) end_process(failure);
    if (store_lost) continue;
    try {
      const std::int64_t events = own_->add("events", 0);
      if (events == seen) continue;
      seen = events;
      answer_calls();
      const std::string stored = get_text(*own_, "failure");
      const std::lock_guard lock(mutex_);
      if (!known_ && !stored.empty()) known_ = parse_failure(stored);
    } catch (const std::exception&) {
      store_lost = true;
    }
  }
}

void FailureWatch::end_process(const std::string& failure) const {
  const std::string text = cat("[parallel] rank ", rank_, ": the run failed: ", failure);
  log_error(text);
  write_error_file(text);
  _exit(static_cast<int>(ExitCode::collective));
}

}  // namespace norma
