// The program on several processes: the same run whatever their number.
#include <algorithm>

#include "support/job.h"

namespace norma {
namespace {

using testing::expect_exit;
using testing::expect_near_runs;
using testing::Job;
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

// Gloo makes a reduce-scatter out of an all-reduce, so that is its name here.
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

}  // namespace
}  // namespace norma
