// A tiny model trained for some steps by one rank of a mesh, as data in and data out: the same code gives the
// reference in one process and what several processes are held against.
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
  int rows_of = 0;  // in one process: the rows stand as those of so many ranks, one rank after the other; 0: in order
  std::int64_t steps = 6;
  bool tied = true;
  bool poison = false;  // released memory is filled with NaN
  bool evaluate_between = false;
  std::int64_t throw_in_step = -1;  // a body throws in this step on every rank; the step is then taken again
  std::vector<std::string> freeze;  // train.freeze

  std::string text() const;
};

// What one rank gives back.
struct TrainOutcome {
  std::vector<double> losses, norms;
  std::vector<double> balance, router_z;               // of models with experts
  std::vector<std::vector<double>> tokens;             // of each layer's experts, in the last step
  std::vector<int> idle_experts;                       // by rank: experts without a token of its first row
  std::map<std::string, std::vector<double>> weights;  // whole tensors once merged; else this rank's ranges
  Json traffic, forecast;                              // of one step: counted, and by the formulas
  std::int64_t pooled_bytes = 0, forecast_pooled_bytes = 0;
  int weight_buffers = 0, gradient_buffers = 0;
};

// In a worker: runs the cases one after the other, each with a world of its own, and returns their results in order.
using CaseRunner = std::function<Json(const Json& one, const LaunchEnvironment& launch)>;
Json run_cases(const Json& cases, const CaseRunner& run);

// The case in this process, without others. A case that was run before is not run again.
const TrainOutcome& train_alone(const TrainCase& one);

// Runs all cases on `world` processes; the outcomes stand in the order of the cases.
std::vector<TrainOutcome> run_train_cases(int world, const std::vector<TrainCase>& cases);

// The case under every strategy of several processes.
std::vector<TrainCase> every_strategy(const TrainCase& like, int world);

struct Tolerance {
  double losses, norms, weights;  // weights: of each tensor, in relative norm
};

void expect_equal(const TrainOutcome& got, const TrainOutcome& want, const Tolerance& tolerance,
                  const std::string& what);

}  // namespace norma::testing
