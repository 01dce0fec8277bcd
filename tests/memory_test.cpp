// Memory of a process against what the plan says, counted by an allocator that every CPU tensor goes through.
#include <atomic>
#include <memory>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/config/schema.h"
#include "norma/model/cost.h"
#include "norma/parallel/forecast.h"
#include "norma/train/train_step.h"

#include "support/rank_model.h"
#include "support/ranks.h"

namespace norma {
namespace {

using testing::RankModel;
using testing::RankResult;

// Hands requests to LibTorch's own allocator and counts what is alive.
class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* base) : base_(base) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    auto block = std::make_unique<Block>(Block{base_->allocate(bytes), bytes, this});
    add(static_cast<std::int64_t>(bytes));
    void* const data = block->memory.get();
    return {data, block.release(), &CountingAllocator::release, at::kCPU};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }

  std::int64_t peak() const { return peak_; }
  void restart_peak() { peak_ = alive_.load(); }

 private:
  struct Block {
    c10::DataPtr memory;
    std::size_t bytes;
    CountingAllocator* owner;
  };
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    block->owner->add(-static_cast<std::int64_t>(block->bytes));
  }
  void add(std::int64_t bytes) {
    const std::int64_t now = alive_ += bytes;
    std::int64_t before = peak_;
    while (now > before && !peak_.compare_exchange_weak(before, now)) {
    }
  }

  c10::Allocator* base_;
  std::atomic<std::int64_t> alive_{0}, peak_{0};
};

// Peak bytes of a second step, and the plan's figure for it.
Json worker_memory(const Json& argument) {
  static CountingAllocator counting(c10::GetCPUAllocator());
  c10::SetCPUAllocator(&counting, /*priority=*/1);
  at::set_num_threads(1);
  const LaunchEnvironment launch = read_launch_environment();
  const RunConfig config = parse_config(argument.get<std::string>(), "case").config;
  const RankModel rank(config, launch);
  const TrainConfig& train = config.train;
  const std::int64_t rows = train.global_batch_size / launch.world_size;
  TrainStep step(const_cast<Transformer&>(rank.model), const_cast<ShardEngine&>(rank.engine),
                 const_cast<AdamW&>(rank.optimizer), const_cast<World&>(rank.world),
                 {*train.micro_batch_size, train.global_batch_size, 1.0, 0.0, train.loss_chunk, {}});
  const at::Tensor ids = at::randint(config.model.vocab_size, {rows, config.model.sequence_length}, at::kLong);
  step.run(ids, 1e-4, 1);
  counting.restart_peak();
  step.run(ids, 1e-4, 2);
  const ForecastQuestion question{rank.layout,
                                  rank.degrees,
                                  rank.policy,
                                  config.precision,
                                  rows / *train.micro_batch_size,
                                  config.model.tie_embeddings,
                                  rank.plan.embedding.present()};
  const ShardMemory memory = forecast_memory(question);
  const std::int64_t activations = memory_estimate(config, rank.plan, *train.micro_batch_size).activations;
  return {{"peak", counting.peak()},
          {"plan", memory.total() + activations},
          {"activations", activations},
          {"parameters", model_cost(config.model, rank.plan).parameters}};
}

const bool kRegistered = testing::register_worker("memory", worker_memory);

std::string case_text(const std::string& more) {
  return "{model: {d_model: 768, num_layers: 8, num_heads: 12, num_kv_heads: 4, mlp_dim: 2048, vocab_size: 50000, "
         "sequence_length: 256}, train: {global_batch_size: 4, micro_batch_size: 2}, " +
         more + "}";
}

TEST(Memory, IsWhatThePlanSays) {
  ASSERT_TRUE(kRegistered);
  for (const char* more :
       {"precision: fp32, parallel: {strategy: full_shard}", "precision: bf16, parallel: {strategy: full_shard}",
        "precision: fp32, parallel: {strategy: ddp}"}) {
    for (const RankResult& rank : testing::run_ranks(2, "memory", case_text(more))) {
      ASSERT_EQ(rank.exit_code, 0) << rank.error;
      const auto peak = rank.result.at("peak").get<double>(), plan = rank.result.at("plan").get<double>();
      EXPECT_GE(rank.result.at("parameters").get<std::int64_t>(), 80'000'000);
      EXPECT_NEAR(peak, plan, 0.05 * plan) << more << rank.result;
      std::printf("%s: plan %.1f MB, measured %.1f MB (%+.1f %%), activations %.1f MB\n", more, plan / 1e6, peak / 1e6,
                  100 * (peak - plan) / plan, rank.result.at("activations").get<double>() / 1e6);
    }
  }
}

}  // namespace
}  // namespace norma
