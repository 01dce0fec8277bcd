// How a model is spread over processes, decided before anything runs, and what that costs each of them by formula:
// memory, and traffic and time of one step. Tests hold the formulas against counted bytes.
//
// U units of n_u elements (padded), S shards, R replicas, M micro-batches, c bytes of a compute weight, g bytes of a
// gradient that is sent. Every process sends, per step and in a ring:
//
//   all-gather       (S - 1) / S * c * n_u each. full_shard and hybrid: every unit once per forward pass that reads it
//   (a
//                    tied table is read twice) and once per backward pass, except for the head, which stays gathered
//                    from its forward pass, and for a unit whose backward pass reads no parameters (UnitInfo).
//                    shard_grad_op: every unit once a step.
//   reduce-scatter   (S - 1) / S * g * n_u each, every unit once a step, or once per micro-batch
//   all-reduce       2 (R - 1) / R * 4 * n_u / S each, every unit once a step
//
// A unit that is frozen as a whole has no gradients to send, and a backward pass ends at the first unit that is not.
#pragma once

#include <cstdint>
#include <vector>

#include "norma/base/layout.h"
#include "norma/config/config.h"
#include "norma/parallel/group.h"
#include "norma/parallel/launch.h"

namespace norma {

struct Degrees {
  int shard = 1, replicate = 1;
  int world_size() const { return shard * replicate; }
};

// How the engine of a mesh behaves; nothing in it changes results beyond rounding.
struct EnginePolicy {
  bool reshard_after_forward = false;     // release gathered weights after each use
  bool reduce_every_micro_batch = false;  // sum gradients into shards after each micro-batch, not once at the end
  bool reduce_in_bf16 = false;            // halves the gradients' traffic, rounds them
  bool poison_released = false;           // for tests: fill released memory with NaN
  std::vector<bool> recompute;            // by unit; empty: none. The backward pass computes its activations again
  bool recompute_inputs = false;          // it computes only the cheap inputs of matrix products again (selective)

  bool recomputes(std::size_t unit) const { return !recompute.empty() && recompute[unit]; }
};

struct Sharding {
  Layout layout;
  Degrees degrees;
  EnginePolicy policy;
  Precision precision = Precision::bf16;
  std::int64_t micro_batches = 1;  // of one process, per step
};

// auto resolved: single for one process, full_shard for more.
Strategy effective_strategy(const ParallelConfig& config, int world_size);
// Throws ConfigError when strategy, replicas and the number of processes do not fit.
Degrees mesh_degrees(const ParallelConfig& config, const LaunchEnvironment& launch);
EnginePolicy engine_policy(const ParallelConfig& config, int world_size, const Layout& layout);

// Bytes that one rank needs at the peak of a training step.
struct RankMemory {
  std::int64_t master_weights = 0;     // the rank's shard
  std::int64_t gradients = 0;          // of that shard
  std::int64_t optimizer = 0;          // m and v of that shard
  std::int64_t compute_weights = 0;    // whole weights in the compute type, kept or pooled; 0 where the master is used
  std::int64_t gradient_pool = 0;      // whole gradients that are being summed into shards
  std::int64_t rounded_gradients = 0;  // these in bf16, where they are sent so
  std::int64_t activations = 0;        // an estimate, the model's activation_bytes()

  std::int64_t total() const;
  std::int64_t background_save() const { return master_weights + optimizer; }  // copied to the host during a save
};

// Pools hold the largest table and two blocks at once: the unit that runs and the one that is on its way.
RankMemory rank_memory(const Sharding& sharding, std::int64_t activations);

// Counts and bytes of one process in one step (`waited` stays 0).
Traffic forecast_traffic(const Sharding& sharding);

// The links between processes, and how fast a process computes.
struct Links {
  int processes_per_node = 8;
  double within_node = 450e9;   // bytes per second that one process can send: NVLink 4
  double between_nodes = 50e9;  // 400 Gb/s per GPU
  double flops = 400e12;        // FLOP per second that a process reaches on this model
};

struct StepForecast {
  double compute_seconds = 0;  // with what recompute adds: a forward pass is a third of a step
  double shard_seconds = 0;    // all-gathers and reduce-scatters
  double replica_seconds = 0;  // all-reduces
  bool shards_leave_node = false;
  double communication() const { return shard_seconds + replica_seconds; }
  // The longer of the two, as if they overlapped perfectly.
  double seconds() const { return compute_seconds > communication() ? compute_seconds : communication(); }
};
StepForecast forecast_step(const Sharding& sharding, const Links& links, double flops_of_process);

}  // namespace norma
