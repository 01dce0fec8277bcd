// The program as several processes of one run, and the files that they leave.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "norma/base/file.h"
#include "norma/base/json.h"
#include "norma/base/text.h"

#include "support/ranks.h"
#include "support/workplace.h"

namespace norma::testing {

inline constexpr const char* kJobConfig = R"(
run: {seed: 7, threads: 1}
model: {d_model: 32, num_layers: 2, num_heads: 4, num_kv_heads: 2, mlp_dim: 48, vocab_size: 61, embedding_rows: 67,
        sequence_length: 16}
data: {dtype: uint16}
train: {max_duration: 12, global_batch_size: 12, micro_batch_size: 2}
optim: {lr: 1e-3}
schedule: {warmup: 4}
checkpoint: {every: 4}
eval: {every: 6, max_instances: 20}
parallel: {timeouts: {start: 60, training: 60, grace: 2}}
metrics: {tensorboard: false, console_every: 1}
)";

struct JobWorkplace : Workplace {
  JobWorkplace() : Workplace(kJobConfig, 8000) {}
};

// The ranks of one job.
class Job {
 public:
  // Calls start(rank, its environment) for each rank.
  using Start = std::function<std::unique_ptr<Program>(int, const Environment&)>;
  Job(int world, const Start& start) {
    for (int rank = 0; rank < world; ++rank) {
      ranks_.push_back(start(rank, rank_environment(rank, world, port_.number())));
    }
  }
  // norma train, with more arguments for all ranks and for the last one.
  Job(const JobWorkplace& work, int world, const std::string& run, const std::vector<std::string>& more = {},
      const std::vector<std::string>& last_rank_more = {})
      : Job(world, [&](int rank, const Environment& environment) {
          std::vector<std::string> arguments = work.train_arguments(run, more);
          if (rank == world - 1) arguments.insert(arguments.end(), last_rank_more.begin(), last_rank_more.end());
          return std::make_unique<Program>(arguments, environment);
        }) {}
  Program& rank(std::size_t r) { return *ranks_[r]; }
  std::vector<ProgramResult> wait() {
    std::vector<ProgramResult> results;
    for (const auto& rank : ranks_) results.push_back(rank->wait());
    return results;
  }

 private:
  ReservedPort port_;
  std::vector<std::unique_ptr<Program>> ranks_;
};

inline void expect_exit(const std::vector<ProgramResult>& results, int code) {
  for (std::size_t r = 0; r < results.size(); ++r) {
    EXPECT_EQ(results[r].exit_code, code) << "rank " << r << ":\n" << results[r].err;
  }
}

// The training loss of each step. Equal losses mean that a step saw the same instances.
inline std::map<std::int64_t, double> losses_of(const std::string& run) {
  std::map<std::int64_t, double> losses;
  for (const std::string& line : split(read_file(run + "/metrics.jsonl", 1 << 24), '\n')) {
    if (line.empty()) continue;
    const Json json = parse_json(line, "metrics");
    if (!json.contains("train/CrossEntropyLoss")) continue;
    const auto step = json.at("step").get<std::int64_t>();
    EXPECT_EQ(losses.count(step), 0U) << "step " << step << " twice";
    EXPECT_EQ(json.at("throughput/total_tokens").get<double>(), static_cast<double>(step * 12 * 16));
    losses[step] = json.at("train/CrossEntropyLoss").get<double>();
  }
  return losses;
}

inline void expect_near_runs(const std::string& a, const std::string& b, double tolerance) {
  const auto left = losses_of(a), right = losses_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [step, loss] : left) EXPECT_NEAR(right.at(step), loss, tolerance * loss) << "step " << step;
}

// The bytes of a checkpoint's tensor files by name.
inline std::map<std::string, std::string> tensors_of(const std::string& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    if (entry.path().extension() == ".safetensors") {
      files[entry.path().filename().string()] = read_file(entry.path(), 1 << 24);
    }
  }
  return files;
}

}  // namespace norma::testing
