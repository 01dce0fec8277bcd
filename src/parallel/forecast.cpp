#include "norma/parallel/forecast.h"

#include <algorithm>

namespace norma {
namespace {

std::int64_t element_bytes(at::ScalarType type) {
  return static_cast<std::int64_t>(c10::elementSize(type));
}

// Padded elements of every unit.
std::vector<std::int64_t> whole_sizes(const ForecastQuestion& q) {
  std::vector<std::int64_t> sizes;
  for (const UnitLayout& unit : q.layout.units) {
    sizes.push_back(shard_of(unit, q.degrees.shard, 0).numel * q.degrees.shard);
  }
  return sizes;
}

std::int64_t sum(const std::vector<std::int64_t>& values) {
  std::int64_t total = 0;
  for (const std::int64_t value : values) total += value;
  return total;
}

bool trains(const UnitLayout& unit) {
  return unit.trained_end > 0;
}

// A backward pass ends at the first unit that is trained.
bool has_backward(const ForecastQuestion& q, std::size_t u) {
  return std::any_of(q.layout.units.begin(), q.layout.units.begin() + static_cast<std::ptrdiff_t>(u) + 1, trains);
}

// How often a unit's weights are gathered in a step.
std::int64_t gathers_of(const ForecastQuestion& q, std::size_t u) {
  if (q.degrees.shard == 1) return 0;
  if (!q.policy.reshard_after_forward) return 1;
  const std::size_t last = q.layout.units.size() - 1;
  const bool is_table = u == 0;
  std::int64_t per_micro_batch = 1;                                                           // forward
  if (is_table && q.tied) per_micro_batch += 1;                                               // forward of the head
  if ((is_table ? q.embedding_norm : u != last) && has_backward(q, u)) per_micro_batch += 1;  // backward
  return per_micro_batch * q.micro_batches;
}

// The same without units that have no gradients.
std::vector<std::int64_t> trained_sizes(const ForecastQuestion& q) {
  std::vector<std::int64_t> sizes = whole_sizes(q);
  for (std::size_t u = 0; u < sizes.size(); ++u) sizes[u] = trains(q.layout.units[u]) ? sizes[u] : 0;
  return sizes;
}

// Part of the units whose forward pass runs twice; about that part of the forward pass.
double recomputed_part(const ForecastQuestion& q) {
  const auto again = std::count(q.policy.recompute.begin(), q.policy.recompute.end(), true);
  const auto blocks = static_cast<double>(q.layout.units.size()) - 2.0;
  return blocks > 0.0 ? static_cast<double>(again) / blocks : 0.0;
}

// The largest table (embedding or head) and two of the largest block; the other small ones with them.
std::int64_t pooled_elements(const std::vector<std::int64_t>& sizes) {
  const std::int64_t table = std::max(sizes.front(), sizes.back());
  const std::int64_t block = sizes.size() > 2 ? *std::max_element(sizes.begin() + 1, sizes.end() - 1) : 0;
  return table + std::min<std::int64_t>(2, static_cast<std::int64_t>(sizes.size()) - 2) * block;
}

}  // namespace

Traffic forecast_traffic(const ForecastQuestion& q) {
  const std::vector<std::int64_t> sizes = whole_sizes(q);
  const double shards = q.degrees.shard, replicas = q.degrees.replicate;
  const auto weight = static_cast<double>(element_bytes(compute_type(q.precision)));
  const auto master = static_cast<double>(element_bytes(master_type(q.precision)));
  const double gradient = q.policy.reduce_in_bf16 && q.precision != Precision::fp64 ? 2.0 : master;
  const std::int64_t scatters = q.policy.reduce_every_micro_batch ? q.micro_batches : 1;
  Traffic traffic;
  for (std::size_t u = 0; u < sizes.size(); ++u) {
    const auto elements = static_cast<double>(sizes[u]);
    const std::int64_t gathers = gathers_of(q, u);
    traffic.all_gathers += gathers;
    traffic.gathered_bytes += static_cast<double>(gathers) * elements * weight * (shards - 1) / shards;
    if (!trains(q.layout.units[u])) continue;
    if (q.degrees.shard > 1) {
      traffic.reduce_scatters += scatters;
      traffic.scattered_bytes += static_cast<double>(scatters) * elements * gradient * (shards - 1) / shards;
    }
    if (q.degrees.replicate > 1) {
      traffic.all_reduces += 1;
      traffic.reduced_bytes += 2.0 * elements / shards * master * (replicas - 1) / replicas;
    }
  }
  return traffic;
}

ShardMemory forecast_memory(const ForecastQuestion& q) {
  const std::vector<std::int64_t> sizes = whole_sizes(q);
  const std::int64_t master = element_bytes(master_type(q.precision));
  const std::int64_t compute = element_bytes(compute_type(q.precision));
  const std::int64_t whole = sum(sizes), shard = whole / q.degrees.shard;
  ShardMemory memory;
  memory.master = memory.gradients = shard * master;
  memory.optimizer = 2 * shard * master;
  if (q.degrees.shard == 1) {
    memory.compute = master == compute ? 0 : whole * compute;
    return memory;
  }
  memory.compute = (q.policy.reshard_after_forward ? pooled_elements(sizes) : whole) * compute;
  const bool all_at_once = q.micro_batches > 1 && !q.policy.reduce_every_micro_batch;
  const std::vector<std::int64_t> trained = trained_sizes(q);
  memory.gradient_pool = (all_at_once ? sum(trained) : pooled_elements(trained)) * master;
  if (q.policy.reduce_in_bf16 && master == 4) memory.rounded = pooled_elements(trained) * 2;
  return memory;
}

StepForecast forecast_step(const ForecastQuestion& q, const Links& links, double flops_of_process) {
  const Traffic traffic = forecast_traffic(q);
  const int node = std::max(1, links.processes_per_node);
  StepForecast step;
  step.shards_leave_node = node % q.degrees.shard != 0;  // a row of ranks starts where the one before ends
  const double shard_link = step.shards_leave_node ? links.between_nodes : links.within_node;
  const bool replicas_leave_node = q.degrees.shard * q.degrees.replicate > node;
  step.compute_seconds = flops_of_process / links.flops * (1.0 + recomputed_part(q) / 3.0);
  step.shard_seconds = (traffic.gathered_bytes + traffic.scattered_bytes) / shard_link;
  step.replica_seconds = traffic.reduced_bytes / (replicas_leave_node ? links.between_nodes : links.within_node);
  return step;
}

}  // namespace norma
