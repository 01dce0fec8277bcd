// Trains a tiny model for some steps. The same code runs as a rank of several processes and in a single process, whose
// numbers are the reference.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "norma/config/config.h"
#include "norma/parallel/launch.h"

#include "support/ranks.h"

namespace norma::testing {

struct TrainCase {
  std::string model = "dense";  // or "moe", "moe_no_losses", "moe_deepseek", "mla", "mla_moe"
  std::string strategy = "single";
  std::string precision = "fp64";
  std::string recompute = "none";
  std::string reduce = "auto";
  std::string reduce_dtype = "fp32";
  std::string preset = "hybrid_star";
  std::int64_t replicas = 0;  // 0: not set
  std::int64_t batch = 12;    // over all ranks
  std::int64_t micro_batch = 12;
  int rows_of = 0;  // in one process: the rows are ordered as those of this many ranks, rank after rank; 0: in order
  std::int64_t steps = 6;
  bool tied = true;
  bool poison = false;  // released memory is filled with NaN
  bool evaluate_between = false;
  std::int64_t throw_in_step = -1;  // a body throws in this step on every rank; the step is then taken again
  std::vector<std::string> freeze;  // train.freeze

  std::string text() const;
};

// What the ranks give back.
struct TrainOutcome {
  std::vector<double> losses, norms;
  std::vector<double> balance, router_z;               // of models with experts
  std::vector<std::vector<double>> tokens;             // of each expert of each layer, in the last step
  std::vector<int> idle_experts;                       // of each rank: experts without a token of its first row
  std::map<std::string, std::vector<double>> weights;  // whole tensors
  Json traffic, forecast;                              // of the last step: counted, and by the formulas
  std::int64_t pooled_bytes = 0, forecast_pooled_bytes = 0;
  int weight_buffers = 0, gradient_buffers = 0;
};

// In a worker: runs the cases one after the other, each with a world of its own, and returns their results in order.
using CaseRunner = std::function<Json(const Json& one, const LaunchEnvironment& launch)>;
Json run_cases(const Json& cases, const CaseRunner& run);

// Runs the case in this process. The outcome is kept, so that an equal case is not run again.
const TrainOutcome& train_alone(const TrainCase& one);

// Runs all cases on `world` processes; the outcomes stand in the order of the cases.
std::vector<TrainOutcome> run_train_cases(int world, const std::vector<TrainCase>& cases);

// The case with every strategy for several processes.
std::vector<TrainCase> every_strategy(const TrainCase& like, int world);

struct Tolerance {
  double losses, norms, weights;  // weights: of each tensor, in relative norm
};

void expect_equal(const TrainOutcome& got, const TrainOutcome& want, const Tolerance& tolerance,
                  const std::string& what);

// Runs the cases on `world` processes and compares each outcome with the one that `reference` gives for the case.
using Reference = const TrainOutcome& (*)(TrainCase one);
void expect_reference(int world, const std::vector<TrainCase>& cases, Reference reference, const Tolerance& tolerance);

// In every precision and with every kind of recompute the case is bit by bit the one without recompute.
void expect_recompute_is_exact(TrainCase like);

}  // namespace norma::testing
