// Memory of a process against what the plan says, counted by an allocator that every CPU tensor goes through.
#include <algorithm>
#include <map>
#include <mutex>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/config/yaml.h"
#include "norma/model/cost.h"
#include "norma/parallel/forecast.h"
#include "norma/train/train_step.h"

#include "support/rank_model.h"
#include "support/ranks.h"

namespace norma {
namespace {

using testing::RankModel;
using testing::RankResult;

// Hands requests to LibTorch's own allocator and counts what is alive. One of a process.
class CountingAllocator : public c10::Allocator {
 public:
  static CountingAllocator& instance() {
    static CountingAllocator one;
    return one;
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    void* const data = base_->raw_allocate(bytes);
    const std::lock_guard lock(mutex_);
    sizes_[data] = bytes;
    alive_ += bytes;
    peak_ = std::max(peak_, alive_);
    return {data, data, &CountingAllocator::release, at::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &CountingAllocator::release; }
  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }

  std::size_t peak() const { return peak_; }

 private:
  CountingAllocator() : base_(c10::GetCPUAllocator()) {}
  static void release(void* data) {
    CountingAllocator& self = instance();
    const std::lock_guard lock(self.mutex_);
    const auto found = self.sizes_.find(data);
    if (found != self.sizes_.end()) {
      self.alive_ -= found->second;
      self.sizes_.erase(found);
    }
    self.base_->raw_deallocate(data);
  }

  c10::Allocator* base_;
  std::mutex mutex_;
  std::map<void*, std::size_t> sizes_;
  std::size_t alive_ = 0, peak_ = 0;
};

// Peak bytes from start to the end of two steps, and the plan's figure for them.
Json worker_memory(const Json& argument) {
  CountingAllocator& counting = CountingAllocator::instance();
  c10::SetCPUAllocator(&counting, /*priority=*/1);
  at::set_num_threads(1);
  const LaunchEnvironment launch = read_launch_environment();
  const RunConfig config = parse_config(argument.get<std::string>(), "case").config;
  RankModel rank(config, launch);
  const TrainConfig& train = config.train;
  const std::int64_t rows = train.global_batch_size / launch.world_size;
  TrainStep step(rank.step_parts(), {.micro_batch = *train.micro_batch_size,
                                     .global_batch = train.global_batch_size,
                                     .loss_chunk = train.loss_chunk});
  const at::Tensor ids = at::randint(config.model.vocab_size, {rows, config.model.sequence_length}, at::kLong);
  for (const std::int64_t s : {1, 2}) step.run(ids, 1e-4, s);  // the second finds every pool filled
  const ForecastQuestion question{rank.layout,
                                  rank.degrees,
                                  rank.policy,
                                  config.precision,
                                  rows / *train.micro_batch_size};
  const ShardMemory memory = forecast_memory(question);
  const std::int64_t activations = memory_estimate(config, rank.plan, *train.micro_batch_size).activations;
  return {{"peak", counting.peak()},
          {"plan", memory.total() + activations},
          {"activations", activations},
          {"parameters", model_cost(config.model, rank.plan).parameters}};
}

const bool kRegistered = testing::register_worker("memory", worker_memory);

std::string case_text(const std::string& model, const std::string& more) {
  return "{model: {d_model: 768, num_layers: 8, num_heads: 12, num_kv_heads: 4, vocab_size: 65536, sequence_length: "
         "128, " +
         model + "}, train: {global_batch_size: 4, micro_batch_size: 2, loss_chunk: 128}, " + more + "}";
}

TEST(Memory, IsWhatThePlanSays) {
  ASSERT_TRUE(kRegistered);
  const std::string dense = "mlp_dim: 2048", experts = "mlp: moe, moe: {num_experts: 4, top_k: 2, expert_dim: 512}";
  for (const std::string& text : {case_text(dense, "precision: fp32, parallel: {strategy: full_shard}"),
                                  case_text(dense, "precision: bf16, parallel: {strategy: full_shard}"),
                                  case_text(dense, "precision: fp32, parallel: {strategy: ddp, recompute: block}"),
                                  case_text(experts, "precision: fp32, parallel: {strategy: shard_grad_op}")}) {
    for (const RankResult& rank : testing::run_ranks(2, "memory", text)) {
      ASSERT_EQ(rank.exit_code, 0) << rank.error;
      const auto peak = rank.result.at("peak").get<double>(), plan = rank.result.at("plan").get<double>();
      EXPECT_GE(rank.result.at("parameters").get<std::int64_t>(), 100'000'000);
      EXPECT_NEAR(peak, plan, 0.05 * plan) << text << rank.result;
      std::printf("%s: plan %.1f MB, measured %.1f MB (%+.1f %%), activations %.1f MB\n", text.c_str(), plan / 1e6,
                  peak / 1e6, 100 * (peak - plan) / plan, rank.result.at("activations").get<double>() / 1e6);
    }
  }
}

}  // namespace
}  // namespace norma
