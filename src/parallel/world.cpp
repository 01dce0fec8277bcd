#include "norma/parallel/world.h"

#include <cstring>
#include <thread>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "norma/base/error.h"

#include "activity.h"
#include "failure_watch.h"
#include "network.h"

namespace norma {
namespace {

constexpr Seconds kFirstSpeaks{0.5};
constexpr Seconds kStoreStays{3.0};  // after the rank that keeps it has failed

using StorePtr = c10::intrusive_ptr<c10d::Store>;

// Torchrun's agent serves the store, or else rank 0 does. A prefix per restart keeps attempts apart.
StorePtr connect(const LaunchEnvironment& launch, Seconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(launch.master_port);
  options.isServer = launch.rank == 0 && !launch.agent_store;
  options.waitWorkers = false;
  options.timeout = whole_milliseconds(timeout);
  try {
    const auto store = c10::make_intrusive<c10d::TCPStore>(launch.master_host, options);
    return c10::make_intrusive<c10d::PrefixStore>(cat("norma/attempt-", launch.restart_count), store);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw CollectiveError(cat("[parallel] rank ", launch.rank, " cannot reach its peers through ", launch.master_host,
                              ":", launch.master_port, ": ", text.substr(0, text.find('\n'))));
  }
}

StorePtr prefixed(const StorePtr& store, const std::string& name) {
  return c10::make_intrusive<c10d::PrefixStore>(name, store);
}

}  // namespace

struct World::State {
  WorldOptions options;
  StorePtr store;
  std::string address;  // where peers reach this process
  std::shared_ptr<Activity> activity;
  std::unique_ptr<Group> all;  // every rank, on the CPU
  std::unique_ptr<Group> gather, reduce, replicas;
  std::unique_ptr<FailureWatch> watch;
  bool failed = false;

  int shard_rank() const { return options.launch.rank % options.shard_degree; }
  int replica() const { return options.launch.rank / options.shard_degree; }

  std::unique_ptr<Group> make(const std::string& name, int rank, int size) const {
    const StorePtr own = prefixed(store, name);
    std::unique_ptr<Group> group = options.device.is_cuda()
                                       ? make_nccl_group(own, rank, size, options.start_timeout, options.device)
                                       : make_gloo_group(own, rank, size, options.start_timeout, address);
    group->report_to(activity);
    return group;
  }
};

World::World() : state_(std::make_unique<State>()) {}

World::World(const WorldOptions& options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.options = options;
  const LaunchEnvironment& launch = options.launch;
  NORMA_CHECK(options.shard_degree * options.replicate_degree == launch.world_size, "[parallel] a mesh of ",
              options.shard_degree, " x ", options.replicate_degree, " for ", launch.world_size, " processes");
  if (launch.world_size == 1) return;
  s.activity = std::make_shared<Activity>();
  s.store = connect(launch, options.start_timeout);
  s.address = address_towards(launch.master_host, launch.master_port);
  s.watch = std::make_unique<FailureWatch>(s.store, launch.rank, launch.world_size, options.grace, s.activity);
  s.all = make_gloo_group(prefixed(s.store, "all"), launch.rank, launch.world_size, options.start_timeout, s.address);
  s.all->report_to(s.activity);
  check_same_mesh(options);
  if (options.shard_degree > 1) {
    s.gather = s.make(cat("gather/", s.replica()), s.shard_rank(), options.shard_degree);
    // Gloo keeps many collectives in flight on one group; NCCL wants one communicator per stream.
    if (options.device.is_cuda()) s.reduce = s.make(cat("reduce/", s.replica()), s.shard_rank(), options.shard_degree);
  }
  if (options.replicate_degree > 1) {
    s.replicas = s.make(cat("replicas/", s.shard_rank()), s.replica(), options.replicate_degree);
  }
  barrier("start-up");
}

void World::start_training() {
  const State& s = *state_;
  for (Group* group : {s.all.get(), s.gather.get(), s.reduce.get(), s.replicas.get()}) {
    if (group != nullptr) group->set_timeout(s.options.timeout);
  }
}

// Ranks with different meshes would wait for each other in vain.
void World::check_same_mesh(const WorldOptions& options) {
  const std::vector<std::string> meshes = gather(cat(options.shard_degree, " shards x ", options.replicate_degree,
                                                     " replicas on ", options.device.is_cuda() ? "GPUs" : "CPUs"));
  for (std::size_t r = 1; r < meshes.size(); ++r) {
    if (meshes[r] == meshes[0]) continue;
    throw ConfigError(
        cat("[parallel] rank 0 asks for ", meshes[0], ", rank ", r, " for ", meshes[r],
            "; start every rank with the same parallel.strategy and run.device, and set parallel.replicas ",
            "where nodes run different numbers of processes"));
  }
}

World::~World() {
  State& s = *state_;
  if (size() == 1) return;
  const auto meet = [this] {
    try {
      barrier("the end");
      return true;
    } catch (const std::exception&) {
      return false;  // this process has done its work; the one that failed reports
    }
  };
  if (!s.failed) meet();
  s.watch.reset();
  // Rank 0 may keep the store, so it must not leave before the others are done with it.
  if (!s.failed) meet();
}

int World::rank() const {
  return state_->options.launch.rank;
}
int World::size() const {
  return state_->options.launch.world_size;
}

Mesh World::mesh() const {
  const State& s = *state_;
  Group* const gather = s.gather.get();
  return {s.options.shard_degree,
          s.shard_rank(),
          s.options.replicate_degree,
          s.replica(),
          gather,
          s.reduce ? s.reduce.get() : gather,
          s.replicas.get()};
}

void World::sum(std::vector<double>& values) {
  if (size() == 1) return;
  const at::Tensor tensor = at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kDouble);
  state_->all->all_reduce(tensor, "the step's figures").wait();
}

// These are a few numbers: a gather does, and Group needs one kind of reduction only.
void World::minimum(std::vector<double>& values) {
  if (size() == 1) return;
  const auto count = static_cast<std::int64_t>(values.size());
  const at::Tensor mine = at::from_blob(values.data(), {count}, at::kDouble);
  const at::Tensor every = at::empty({size() * count}, at::kDouble);
  state_->all->all_gather(every, mine, "figures of every rank").wait();
  mine.copy_(every.view({size(), count}).amin(0));
}

std::vector<std::string> World::gather(const std::string& text) {
  if (size() == 1) return {text};
  const auto ranks = static_cast<std::size_t>(size());
  at::Tensor length = at::full({1}, static_cast<std::int64_t>(text.size()), at::kLong);
  const at::Tensor lengths = at::empty({size()}, at::kLong);
  state_->all->all_gather(lengths, length, "messages").wait();
  const std::int64_t longest = std::max<std::int64_t>(1, lengths.max().item<std::int64_t>());
  const at::Tensor mine = at::zeros({longest}, at::kByte), every = at::empty({size() * longest}, at::kByte);
  std::memcpy(mine.mutable_data_ptr(), text.data(), text.size());
  state_->all->all_gather(every, mine, "messages").wait();
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto* begin = static_cast<const char*>(every.const_data_ptr()) + static_cast<std::int64_t>(r) * longest;
    texts.emplace_back(begin, static_cast<std::size_t>(lengths[static_cast<std::int64_t>(r)].item<std::int64_t>()));
  }
  return texts;
}

void World::barrier(const std::string& what) {
  if (size() == 1) return;
  state_->all->all_reduce(at::zeros({1}), cat("the meeting at ", what)).wait();
}

void World::set_step(std::int64_t step) {
  if (state_->activity) state_->activity->set_step(step);
}

std::string World::report_failure(const std::string& text, bool collective) {
  State& s = *state_;
  if (size() == 1) return text;
  s.failed = true;
  RankFailure mine{rank(), text};
  s.watch->stand_down(mine.described());
  try {
    // Where every rank meets the same failure (a missing file, a loss that is not finite), rank 0 reports it.
    if (!collective && !is_first()) std::this_thread::sleep_for(kFirstSpeaks);
    std::optional<RankFailure> first = s.watch->published();
    if (!first && collective) {
      const std::string roll = s.watch->call_roll();
      if (!roll.empty()) mine.text += "\n  " + roll;
    }
    if (!first) first = s.watch->publish(mine.text);
    if (first->rank != mine.rank) {
      if (!is_first() && first->text == text) return "";  // rank 0 reports it
      mine.text += "\n  the first failure was of " + first->described();
    }
    // Rank 0 keeps the store, which the others still have to read.
    if (s.options.launch.rank == 0 && !s.options.launch.agent_store) std::this_thread::sleep_for(kStoreStays);
  } catch (const std::exception&) {
    mine.text += "\n  the process that keeps the ranks together (rank 0, or torchrun's agent) does not answer either";
  }
  return mine.described();
}

std::vector<const Group*> World::groups() const {
  std::vector<const Group*> found;
  for (const Group* group : {state_->gather.get(), state_->reduce.get(), state_->replicas.get()}) {
    if (group != nullptr) found.push_back(group);
  }
  return found;
}

}  // namespace norma
