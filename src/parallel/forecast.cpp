#include <algorithm>
#include <numeric>

#include "norma/parallel/shard_engine.h"
#include "norma/parallel/sharding.h"

namespace norma {
namespace {

std::int64_t element_bytes(at::ScalarType type) {
  return static_cast<std::int64_t>(c10::elementSize(type));
}

// Padded elements of every unit.
std::vector<std::int64_t> whole_sizes(const Sharding& s) {
  std::vector<std::int64_t> sizes;
  for (const UnitLayout& unit : s.layout.units) {
    sizes.push_back(shard_of(unit, s.degrees.shard, 0).numel * s.degrees.shard);
  }
  return sizes;
}

std::int64_t sum(const std::vector<std::int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

// How often each unit's weights are gathered in a step.
std::vector<std::int64_t> count_gathers(const Sharding& s) {
  const std::vector<UnitLayout>& units = s.layout.units;
  if (s.degrees.shard == 1) return std::vector<std::int64_t>(units.size(), 0);
  if (!s.policy.reshard_after_forward) return std::vector<std::int64_t>(units.size(), 1);
  std::vector<std::int64_t> gathers(units.size(), 0);
  bool differentiable = false;  // something up to this unit is trained, so that its backward pass runs
  for (std::size_t u = 0; u < units.size(); ++u) {
    std::vector<std::size_t> read = {u};
    for (const int other : units[u].also_needs) read.push_back(static_cast<std::size_t>(other));
    for (const std::size_t r : read) differentiable = differentiable || units[r].trains();
    const bool kept = units[u].role == UnitRole::head;  // its backward pass comes right after its forward pass
    const bool again = differentiable && !kept && (units[u].backward_reads_parameters || s.policy.recomputes(u));
    for (const std::size_t r : read) gathers[r] += s.micro_batches * (again ? 2 : 1);
  }
  return gathers;
}

// The sizes of units that have gradients; 0 for the others.
std::vector<std::int64_t> trained_sizes(const Sharding& s) {
  std::vector<std::int64_t> sizes = whole_sizes(s);
  for (std::size_t u = 0; u < sizes.size(); ++u) sizes[u] = s.layout.units[u].trains() ? sizes[u] : 0;
  return sizes;
}

// The fraction of the blocks whose forward pass runs twice, which is about that fraction of the whole forward pass.
double recomputed_part(const Sharding& s) {
  double again = 0.0, blocks = 0.0;
  for (std::size_t u = 0; u < s.layout.units.size(); ++u) {
    if (s.layout.units[u].role != UnitRole::block) continue;
    blocks += 1.0;
    again += s.policy.recomputes(u) ? 1.0 : 0.0;
  }
  return blocks > 0.0 ? again / blocks : 0.0;
}

// Elements of the largest table (embedding or head) and of two blocks of the largest size: the others fit into their
// buffers. `sizes` are by unit.
std::int64_t pooled_elements(const Sharding& s, const std::vector<std::int64_t>& sizes) {
  std::int64_t table = 0, block = 0, blocks = 0;
  for (std::size_t u = 0; u < sizes.size(); ++u) {
    const bool is_block = s.layout.units[u].role == UnitRole::block;
    std::int64_t& largest = is_block ? block : table;
    largest = std::max(largest, sizes[u]);
    blocks += is_block ? 1 : 0;
  }
  return table + std::min<std::int64_t>(2, blocks) * block;
}

}  // namespace

Traffic forecast_traffic(const Sharding& s) {
  const std::vector<std::int64_t> sizes = whole_sizes(s);
  const double shards = s.degrees.shard, replicas = s.degrees.replicate;
  const auto weight = static_cast<double>(element_bytes(compute_type(s.precision)));
  const auto master = static_cast<double>(element_bytes(master_type(s.precision)));
  const double gradient = s.policy.reduce_in_bf16 && s.precision != Precision::fp64 ? 2.0 : master;
  const std::int64_t scatters = s.policy.reduce_every_micro_batch ? s.micro_batches : 1;
  const std::vector<std::int64_t> gathers = count_gathers(s);
  Traffic traffic;
  for (std::size_t u = 0; u < sizes.size(); ++u) {
    const auto elements = static_cast<double>(sizes[u]);
    traffic.all_gathers += gathers[u];
    traffic.gathered_bytes += static_cast<double>(gathers[u]) * elements * weight * (shards - 1) / shards;
    if (!s.layout.units[u].trains()) continue;
    if (s.degrees.shard > 1) {
      traffic.reduce_scatters += scatters;
      traffic.scattered_bytes += static_cast<double>(scatters) * elements * gradient * (shards - 1) / shards;
    }
    if (s.degrees.replicate > 1) {
      traffic.all_reduces += 1;
      traffic.reduced_bytes += 2.0 * elements / shards * master * (replicas - 1) / replicas;
    }
  }
  return traffic;
}

std::int64_t RankMemory::total() const {
  return master_weights + gradients + optimizer + compute_weights + gradient_pool + rounded_gradients + activations;
}

RankMemory rank_memory(const Sharding& s, std::int64_t activations) {
  const std::vector<std::int64_t> sizes = whole_sizes(s);
  const std::int64_t master = element_bytes(master_type(s.precision));
  const std::int64_t compute = element_bytes(compute_type(s.precision));
  const std::int64_t whole = sum(sizes), shard = whole / s.degrees.shard;
  RankMemory memory;
  memory.activations = activations;
  memory.master_weights = memory.gradients = shard * master;
  memory.optimizer = 2 * shard * master;
  if (s.degrees.shard == 1) {
    memory.compute_weights = master == compute ? 0 : whole * compute;
    return memory;
  }
  memory.compute_weights = (s.policy.reshard_after_forward ? pooled_elements(s, sizes) : whole) * compute;
  const bool all_at_once = s.micro_batches > 1 && !s.policy.reduce_every_micro_batch;
  const std::vector<std::int64_t> trained = trained_sizes(s);
  memory.gradient_pool = (all_at_once ? sum(trained) : pooled_elements(s, trained)) * master;
  if (s.policy.reduce_in_bf16 && master == 4) memory.rounded_gradients = pooled_elements(s, trained) * 2;
  return memory;
}

StepForecast forecast_step(const Sharding& s, const Links& links, double flops_of_process) {
  const Traffic traffic = forecast_traffic(s);
  const int node = std::max(1, links.processes_per_node);
  StepForecast step;
  step.shards_leave_node = node % s.degrees.shard != 0;  // rows of the mesh follow each other without gaps
  const double shard_link = step.shards_leave_node ? links.between_nodes : links.within_node;
  const bool replicas_leave_node = s.degrees.shard * s.degrees.replicate > node;
  step.compute_seconds = flops_of_process / links.flops * (1.0 + recomputed_part(s) / 3.0);
  step.shard_seconds = (traffic.gathered_bytes + traffic.scattered_bytes) / shard_link;
  step.replica_seconds = traffic.reduced_bytes / (replicas_leave_node ? links.between_nodes : links.within_node);
  return step;
}

}  // namespace norma
