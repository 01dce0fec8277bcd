// The program on several processes: the run is the same for any number of them.
#include <algorithm>
#include <memory>

#include <unistd.h>

#include "support/job.h"

namespace norma {
namespace {

using testing::expect_exit;
using testing::expect_near_runs;
using testing::Job;
using testing::Program;
using testing::tensors_of;

TEST(Ranks, AnyNumberGoesOnFromWhatAnyNumberSaved) {
  const testing::JobWorkplace work;
  expect_exit(Job(work, 1, "straight").wait(), 0);
  expect_exit(Job(work, 4, "saved", {"train.stop_at=6", "parallel.strategy=full_shard"}).wait(), 75);
  const std::vector<std::pair<int, std::string>> continuations = {
      {1, "single"}, {2, "ddp"}, {3, "shard_grad_op"}, {4, "hybrid"}};
  for (const auto& [world, strategy] : continuations) {
    const std::string run = "on-" + strategy;
    fs::copy(work.path("saved"), work.path(run), fs::copy_options::recursive);
    std::vector<std::string> more = {"parallel.strategy=" + strategy};
    if (strategy == "hybrid") more.emplace_back("parallel.replicas=2");
    expect_exit(Job(work, world, run, more).wait(), 0);
    expect_near_runs(work.path("straight"), work.path(run), 1e-6);
  }
}

TEST(Ranks, ASaveInTheBackgroundEqualsOneThatIsWaitedFor) {
  const testing::JobWorkplace work;
  expect_exit(Job(work, 2, "waited", {"checkpoint.background=false"}).wait(), 0);
  expect_exit(Job(work, 2, "background", {"checkpoint.background=true"}).wait(), 0);
  for (const char* step : {"/step-4", "/step-8", "/step-12"}) {
    EXPECT_EQ(tensors_of(work.path("waited") + step), tensors_of(work.path("background") + step)) << step;
  }
}

struct TraceSpan {
  double begin, end;
  bool overlaps(const TraceSpan& other) const { return begin < other.end && other.begin < end; }
};

// Complete events of a Chrome trace by name.
std::map<std::string, std::vector<TraceSpan>> spans_of(const std::string& file) {
  std::map<std::string, std::vector<TraceSpan>> spans;
  const Json trace = read_json(file, 1 << 28);
  for (const Json& event : trace.at("traceEvents")) {
    if (event.value("ph", "") != "X" || !event.at("name").is_string()) continue;
    const double begin = event.at("ts").get<double>();
    spans[event.at("name").get<std::string>()].push_back({begin, begin + event.at("dur").get<double>()});
  }
  return spans;
}

// Gloo makes a reduce-scatter out of an all-reduce, and the trace shows it under that name.
TEST(Ranks, ATraceShowsCollectivesBesideCompute) {
  const testing::JobWorkplace work;
  const std::vector<std::string> more = {"metrics.trace_steps=4", "metrics.trace_from=3",
                                         "parallel.strategy=full_shard", "model.d_model=128", "model.mlp_dim=512"};
  expect_exit(Job(work, 2, "run", more).wait(), 0);
  const auto spans = spans_of(work.path("run") + "/traces/rank0.json");
  const std::vector<TraceSpan>& products = spans.at("aten::mm");
  for (const char* kind : {"gloo:all_gather", "gloo:all_reduce"}) {
    const auto beside = std::count_if(spans.at(kind).begin(), spans.at(kind).end(), [&](const TraceSpan& span) {
      return std::any_of(products.begin(), products.end(), [&](const TraceSpan& one) { return one.overlaps(span); });
    });
    EXPECT_GT(beside, 0) << kind << " of " << spans.at(kind).size();
  }
  for (const char* unit : {"forward blocks.1", "backward blocks.1", "forward head"}) EXPECT_EQ(spans.count(unit), 1U);
}

TEST(Ranks, ReplicasAreCompared) {
  const testing::JobWorkplace work;
  expect_exit(
      Job(work, 4, "run", {"parallel.strategy=hybrid", "parallel.replicas=2", "parallel.check_replicas_every=3"})
          .wait(),
      0);
}

// Two network namespaces, joined by a virtual cable, stand for two hosts. In both of them the machine's name means
// 127.0.0.1, as it does on many real hosts.
class TwoHosts {
 public:
  TwoHosts() : names_{cat("norma-", getpid(), "-a"), cat("norma-", getpid(), "-b")} {
    const std::string &a = names_[0], &b = names_[1];
    made_ = command({"netns", "add", a}) && command({"netns", "add", b}) &&
            command({"link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b});
    for (std::size_t host = 0; host < 2; ++host) {
      const std::string& name = names_[host];
      made_ = made_ && command({"-n", name, "addr", "add", address(host) + "/24", "dev", "cable"}) &&
              command({"-n", name, "link", "set", "lo", "up"}) && command({"-n", name, "link", "set", "cable", "up"});
    }
  }
  ~TwoHosts() {
    for (const std::string& name : names_) command({"netns", "delete", name});
  }
  bool made() const { return made_; }
  static std::string address(std::size_t host) { return cat("10.77.0.", host + 1); }
  std::unique_ptr<Program> start(std::size_t host, std::vector<std::string> arguments,
                                 const testing::Environment& environment) const {
    arguments.insert(arguments.begin(), {"netns", "exec", names_[host], std::string(NORMA_BINARY_DIR) + "/norma"});
    return std::make_unique<Program>(kIp, arguments, environment);
  }

 private:
  static constexpr const char* kIp = "/usr/sbin/ip";
  static bool command(const std::vector<std::string>& arguments) {
    return Program(kIp, arguments, {}).wait().exit_code == 0;
  }

  std::string names_[2];
  bool made_ = false;
};

TEST(TwoHosts, FindEachOtherAsSlurmStartsThem) {
  const TwoHosts hosts;
  if (!hosts.made()) GTEST_SKIP() << "network namespaces need root and the package iproute2";
  const testing::JobWorkplace work;
  expect_exit(Job(work, 1, "alone").wait(), 0);
  std::vector<std::unique_ptr<Program>> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    const testing::Environment environment = {{"SLURM_PROCID", std::to_string(rank)},
                                              {"SLURM_LOCALID", std::to_string(rank % 2)},
                                              {"SLURM_NTASKS", "4"},
                                              {"SLURM_JOB_ID", "41"},
                                              {"SLURM_TASKS_PER_NODE", "2(x2)"},
                                              {"SLURM_JOB_NODELIST", "host[1-2]"},
                                              {"MASTER_ADDR", TwoHosts::address(0)},
                                              {"OMP_NUM_THREADS", "1"}};
    ranks.push_back(hosts.start(static_cast<std::size_t>(rank / 2),
                                work.train_arguments("run", {"parallel.strategy=hybrid"}), environment));
  }
  std::vector<testing::ProgramResult> results;
  for (const auto& rank : ranks) results.push_back(rank->wait());
  expect_exit(results, 0);
  EXPECT_NE(results[0].err.find("started by SLURM; strategy hybrid"), std::string::npos) << results[0].err;
  expect_near_runs(work.path("alone"), work.path("run"), 1e-6);
}

}  // namespace
}  // namespace norma
