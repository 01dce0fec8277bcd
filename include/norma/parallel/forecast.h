// What a mesh costs before it runs: traffic, memory and time of one step of one process, by formula. Tests hold the
// formulas against counted bytes.
//
// U units of n_u elements (padded), S shards, R replicas, M micro-batches, c bytes of a compute weight, g bytes of a
// gradient on its way. Per process and step, in a ring:
//
//   all-gather       (S - 1) / S * c * n_u each. full_shard and hybrid: every unit once per forward pass, a tied table
//                    twice; every unit but the head (kept from the forward pass) once per backward pass, and not the
//                    embedding, whose backward pass reads no weights, unless it is normed. shard_grad_op: every unit
//                    once a step.
//   reduce-scatter   (S - 1) / S * g * n_u each, every unit once a step, or once per micro-batch
//   all-reduce       2 (R - 1) / R * 4 * n_u / S each, every unit once a step
//
// Units that are frozen as a whole have no gradients to send, and a backward pass ends at the first one that is not.
#pragma once

#include "norma/base/layout.h"
#include "norma/parallel/group.h"
#include "norma/parallel/strategy.h"

namespace norma {

struct ForecastQuestion {
  Layout layout;
  Degrees degrees;
  EnginePolicy policy;
  Precision precision = Precision::bf16;
  std::int64_t micro_batches = 1;  // of one process, per step
};

// Counts and bytes of one process in one step (`waited` stays 0).
Traffic forecast_traffic(const ForecastQuestion& question);

// Bytes of one process without activations. A save in the background copies master weights and optimizer state besides,
// on the host. Pools hold the largest table and two blocks at once: the unit that runs and
// the one that is on its way.
struct ShardMemory {
  std::int64_t master = 0;         // 4 n / S
  std::int64_t gradients = 0;      // 4 n / S
  std::int64_t optimizer = 0;      // 8 n / S
  std::int64_t compute = 0;        // whole weights in the compute type, kept or pooled
  std::int64_t gradient_pool = 0;  // whole gradients on their way to shards
  std::int64_t rounded = 0;        // the same in bf16, where that is how they travel
  std::int64_t total() const { return master + gradients + optimizer + compute + gradient_pool + rounded; }
};
ShardMemory forecast_memory(const ForecastQuestion& question);

// Links of a machine room, bytes per second that one process can send.
struct Links {
  int processes_per_node = 8;
  double within_node = 450e9;   // NVLink 4
  double between_nodes = 50e9;  // 400 Gb/s per GPU
  double flops = 400e12;        // that a process reaches on this model
};

struct StepForecast {
  double compute_seconds = 0;  // with what recompute adds: a forward pass is a third of a step
  double shard_seconds = 0;    // gathers and reduce-scatters
  double replica_seconds = 0;  // all-reduces
  bool shards_leave_node = false;
  double communication() const { return shard_seconds + replica_seconds; }
  // Longer of the two: what a perfect overlap leaves.
  double seconds() const { return compute_seconds > communication() ? compute_seconds : communication(); }
};
StepForecast forecast_step(const ForecastQuestion& question, const Links& links, double flops_of_process);

}  // namespace norma
