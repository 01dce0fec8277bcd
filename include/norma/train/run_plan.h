// What a run will do, derived once from its config and then only read: printed, saved, executed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "norma/config/config.h"
#include "norma/model/cost.h"
#include "norma/norm/plan.h"
#include "norma/parallel/sharding.h"

namespace norma {

struct RunPlan {
  RunConfig config;
  NormPlan norms;
  ModelCost cost;
  Sharding sharding;
  RankMemory memory;  // the same on every rank of the mesh
  std::int64_t tokens_per_step = 0;
  std::int64_t micro_batch = 0;        // instances of one process' forward and backward pass
  std::int64_t num_micro_batches = 0;  // of one process per step
  std::int64_t batches_per_epoch = 0;  // 0: the data is not known yet
  std::int64_t max_steps = 0;          // 0: not known yet (epochs without the data, minutes before they are measured)
  std::int64_t max_tokens = 0;

  // The rate of the step with which the run reaches this many steps and tokens.
  double learning_rate(std::int64_t step, std::int64_t tokens) const;
};

// `batches_per_epoch` is 0 when the data is not open. Tokens round up to whole steps (OLMo). The processes of the mesh
// share the batch.
RunPlan make_run_plan(const RunConfig& config, const NormPlan& norms, std::int64_t batches_per_epoch,
                      const Degrees& degrees = {});

// Problems of the length of the run and of the schedule within it. None are found while the length is not known.
Problems check_schedule(const RunPlan& plan);

// The plan for people: sizes, FLOPs, memory, length, schedule, the norm table, and the known risks.
std::string describe(const RunPlan& plan);

// Where a config departs from the recipe of its placement (configs/recipes/) in a way that is known to fail: a sentence
// each, with its source. Judged by where the norms sit, not by the preset's name.
std::vector<std::string> known_risks(const RunPlan& plan);

}  // namespace norma
