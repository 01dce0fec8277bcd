// Memory of a rank against what the plan says, counted by an allocator that every CPU tensor goes through.
#include <algorithm>
#include <map>
#include <mutex>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/config/yaml.h"
#include "norma/train/run_plan.h"
#include "norma/train/train_step.h"

#include "support/rank_model.h"
#include "support/train_case.h"

namespace norma {
namespace {

using testing::RankModel;
using testing::RankResult;

// Hands requests to LibTorch's own allocator and counts the bytes that are alive.
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

  void start() { peak_ = start_ = alive_; }
  std::size_t peak() const { return peak_ - start_; }  // since start()

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
  std::size_t alive_ = 0, peak_ = 0, start_ = 0;
};

// Peak bytes from the start to the end of two steps, and the plan's figure for them.
Json measure(const Json& config_text, const LaunchEnvironment& launch) {
  CountingAllocator& counting = CountingAllocator::instance();
  counting.start();
  const RunConfig config = parse_config(config_text.get<std::string>(), "case").config;
  RankModel rank(config, launch);
  const RunPlan plan = make_run_plan(config, rank.plan, /*batches_per_epoch=*/0, rank.degrees);
  const TrainConfig& train = config.train;
  TrainStep step(
      rank.step_parts(),
      {.micro_batch = plan.micro_batch, .global_batch = train.global_batch_size, .loss_chunk = train.loss_chunk});
  const std::int64_t rows = train.global_batch_size / launch.world_size;
  const at::Tensor ids = at::randint(config.model.vocab_size, {rows, config.model.sequence_length}, at::kLong);
  for (const std::int64_t s : {1, 2}) step.run(ids, 1e-4, s);  // the second finds every pool filled
  return {{"peak", counting.peak()}, {"plan", plan.memory.total()}, {"activations", plan.memory.activations}};
}

Json worker_memory(const Json& argument) {
  c10::SetCPUAllocator(&CountingAllocator::instance(), /*priority=*/1);
  at::set_num_threads(1);
  return testing::run_cases(argument, measure);
}

const bool kRegistered = testing::register_worker("memory", worker_memory);

std::string case_text(const std::string& model, const std::string& more) {
  return "{model: {d_model: 256, num_layers: 6, num_heads: 8, vocab_size: 16384, sequence_length: 128, " + model +
         "}, train: {global_batch_size: 8, micro_batch_size: 2, loss_chunk: 128}, " + more + "}";
}

TEST(Memory, IsWhatThePlanSays) {
  ASSERT_TRUE(kRegistered);
  const std::string dense = "num_kv_heads: 4, mlp_dim: 704",
                    experts = "num_kv_heads: 4, mlp: moe, moe: {num_experts: 4, top_k: 2, expert_dim: 192}",
                    latent =
                        "mlp_dim: 704, attention: {kind: mla, q_rank: 128, kv_rank: 64, nope_dim: 32, rope_dim: 16, "
                        "value_dim: 32}",
                    both =
                        "attention: {kind: mla, kv_rank: 64, nope_dim: 32, rope_dim: 16, value_dim: 32}, mlp: moe, "
                        "moe: {num_experts: 8, top_k: 2, expert_dim: 128, shared_experts: 1}";
  const std::vector<std::string> cases = {
      case_text(dense, "precision: fp32, parallel: {strategy: full_shard}"),
      case_text(dense, "precision: bf16, parallel: {strategy: full_shard}"),
      case_text(dense, "precision: fp32, parallel: {strategy: ddp, recompute: block}"),
      case_text(dense, "precision: fp32, parallel: {strategy: ddp, recompute: selective}"),
      case_text(experts, "precision: fp32, parallel: {strategy: shard_grad_op}"),
      case_text(experts, "precision: bf16, parallel: {strategy: ddp}"),
      case_text(latent, "precision: fp32, parallel: {strategy: ddp}"),
      case_text(latent, "precision: bf16, parallel: {strategy: full_shard}, norm: {preset: qk}"),
      case_text(both, "precision: fp32, parallel: {strategy: ddp}, norm: {preset: pre}")};
  for (const RankResult& rank : testing::run_ranks(2, "memory", cases)) {
    ASSERT_EQ(rank.exit_code, 0) << rank.error;
    for (std::size_t c = 0; c < cases.size(); ++c) {
      const Json& result = rank.result.at(c);
      const auto peak = result.at("peak").get<double>(), plan = result.at("plan").get<double>();
      EXPECT_NEAR(peak, plan, 0.05 * plan) << cases[c] << result;
      std::printf("%s: plan %.1f MB, measured %.1f MB (%+.1f %%), activations %.1f MB\n", cases[c].c_str(), plan / 1e6,
                  peak / 1e6, 100 * (peak - plan) / plan, result.at("activations").get<double>() / 1e6);
    }
  }
}

}  // namespace
}  // namespace norma
