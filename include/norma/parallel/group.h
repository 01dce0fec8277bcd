// Collectives of a group of processes, through c10d: Gloo on the CPU, NCCL on GPUs.
//
// Every member calls the same collectives in the same order. A collective starts after the work that is queued on the
// current stream and runs at the same time as what is queued later; wait() makes the current stream (on a CPU: the
// calling thread) wait for it. Only this code knows streams. A collective keeps its tensors alive until it has been
// waited for.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace norma {

using Seconds = std::chrono::duration<double>;

class Activity;

// A collective in flight; an empty one is done already.
class Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<void()> wait) : wait_(std::move(wait)) {}
  bool in_flight() const { return static_cast<bool>(wait_); }
  // Only the first call has an effect. Throws CollectiveError naming the collective when a peer is lost or too slow.
  void wait() {
    if (!wait_) return;
    const auto once = std::move(wait_);
    wait_ = nullptr;
    once();
  }

 private:
  std::function<void()> wait_;
};

// What a process has sent, by kind. Bytes are those of a ring of n members: for an all-gather or reduce-scatter of B
// bytes each member sends B (n - 1) / n, for an all-reduce twice that.
struct Traffic {
  std::int64_t all_gathers = 0, reduce_scatters = 0, all_reduces = 0;
  double gathered_bytes = 0, scattered_bytes = 0, reduced_bytes = 0;
  Seconds waited{0};  // time that the calling thread spent in wait()
};

class Group {
 public:
  Group(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Fills whole [size * n] with every member's part [n]. `part` may be this member's own range of `whole`. `what` is
  // for messages ("blocks.3").
  Pending all_gather(const at::Tensor& whole, const at::Tensor& part, const std::string& what);
  // part [n] becomes the sum over members of their range of whole [size * n].
  Pending reduce_scatter(const at::Tensor& part, const at::Tensor& whole, const std::string& what);
  // The tensor becomes its sum over members.
  Pending all_reduce(const at::Tensor& tensor, const std::string& what);

  void report_to(std::shared_ptr<Activity> activity) { activity_ = std::move(activity); }
  const Traffic& traffic() const { return traffic_; }
  void reset_traffic() { traffic_ = {}; }

  virtual void set_timeout(Seconds timeout) = 0;
  virtual void abort() = 0;  // wakes whoever waits; the group is of no use afterwards

 protected:
  virtual Pending start_all_gather(const at::Tensor& whole, const at::Tensor& part) = 0;
  virtual Pending start_reduce_scatter(const at::Tensor& part, const at::Tensor& whole) = 0;
  virtual Pending start_all_reduce(const at::Tensor& tensor) = 0;

 private:
  Pending named(const std::function<Pending()>& start, const std::string& text);

  int rank_, size_;
  Traffic traffic_;
  std::shared_ptr<Activity> activity_;
};

// The members find each other through `store`, which no other group uses, and reach this one at `address`, unless
// GLOO_SOCKET_IFNAME names an interface. Throws CollectiveError when they do not all come within `timeout`.
std::unique_ptr<Group> make_gloo_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                       Seconds timeout, const std::string& address);
// The group has its own stream and communicator. Throws ConfigError in a build without NCCL.
std::unique_ptr<Group> make_nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                       Seconds timeout, at::Device device);

std::chrono::milliseconds whole_milliseconds(Seconds seconds);

}  // namespace norma
