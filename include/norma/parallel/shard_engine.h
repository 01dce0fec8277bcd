// One engine for every way of spreading a model over processes.
//
// Each unit (embedding, block, head) is one flat buffer per purpose, laid out by its UnitLayout and cut into equal
// shards. A rank owns its shard of the master weights, gradients and optimizer state; the whole compute weights are
// gathered before the unit runs, the whole gradient is summed into shards when the unit's backward pass ends, and
// copies of the model (replicas) add their shards up. What is usually called a strategy is a setting:
//
//   single        shard 1,  replicate 1
//   ddp           shard 1,  replicate W
//   shard_grad_op shard W,  replicate 1     weights gathered once a step and kept
//   full_shard    shard W,  replicate 1, reshard_after_forward: weights gathered before each use, then released
//   hybrid        shard W/R, replicate R, reshard_after_forward
//
// In fp32 and fp64 at shard 1 master and compute weights are one buffer; in bf16 the compute weights and the stream
// are bf16 while master and gradient stay fp32. The module's parameters are leaves over the compute buffer, their
// .grad views of the gradient buffer. Gathered weights and gradients that are being summed get their memory from a pool
// that reuses it, so that its peak is a few units and not the model.
//
// ZeRO (arXiv 1910.02054), FSDP (arXiv 2304.11277). Each unit call is one autograd Function (unit_call.h), which gives
// exact points before and after the unit's forward and backward pass; it also recomputes activations.
#pragma once

#include <memory>
#include <vector>

#include "norma/base/layout.h"
#include "norma/base/unit.h"
#include "norma/base/weights.h"
#include "norma/config/config.h"
#include "norma/parallel/sharding.h"
#include "norma/parallel/world.h"

namespace norma {

enum class Purpose { training, inference };  // inference has no gradients

class BufferPool;

class ShardEngine : public UnitRunner {
 public:
  // Gives the units' parameters their storage on `device`. `layout` must name exactly these parameters. The groups of
  // `mesh` outlive the engine.
  ShardEngine(const std::vector<Unit>& units, Layout layout, Precision precision, at::Device device,
              Purpose purpose = Purpose::training, const Mesh& mesh = {}, EnginePolicy policy = {});
  ~ShardEngine() override;

  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override;

  bool recomputes_inputs(const Unit&) const override { return policy_.recompute_inputs; }

  const Layout& layout() const { return layout_; }
  const Mesh& mesh() const { return mesh_; }
  // This rank's shard of master and gradient (undefined for inference) of every unit, in the layout's order.
  const std::vector<FlatUnit>& flat_units() const { return flat_; }
  std::vector<at::Tensor> masters() const;  // of these the master weights alone
  std::vector<ShardPiece> pieces() const;   // where each tensor lies in this rank's shards
  // At shard degree 1, a tensor inside a flat buffer that is ordered like flat_units(): a view [shape].
  static at::Tensor view(const at::Tensor& flat, const TensorSpan& span);

  // Reads the master weights that this rank owns, and refreshes the compute weights. All ranks call it.
  void fill(const WeightReader& reader);

  // The phases of a training step, called in the same order by all ranks.
  void clear_gradients();             // before the first micro-batch; discards what a failed step left behind
  void begin_micro_batch(bool last);  // before each forward pass; without it each one counts as the last
  void finish_gradients();            // after the last backward pass: the shards' gradients are complete
  void refresh_compute();             // after the optimizer or a loader changed the master weights

  // The most buffers that were lent at once, for weights and for gradients, and the bytes that both pools hold.
  int peak_weight_buffers() const;
  int peak_gradient_buffers() const;
  std::int64_t pooled_bytes() const;

 private:
  struct UnitState;
  struct CallHooks;

  // Called around a unit call under autograd, see UnitCallHooks.
  void before_forward(const Unit& unit);
  bool after_forward(const Unit& unit, bool differentiable);
  void before_backward(const Unit& unit, bool recompute, bool kept);
  void after_backward(const Unit& unit);

  void bind(const Unit& unit, std::size_t u, Precision precision, at::Device device, Purpose purpose);
  void start_gather(std::size_t u);
  void acquire(std::size_t u);
  void release(std::size_t u);
  void prefetch(int index, bool for_backward);
  void prepare_gradient(std::size_t u);
  void start_reduce(std::size_t u);
  void finish_scatter(std::size_t u);
  void forget_calls();
  std::vector<std::size_t> units_read_by(const Unit& unit) const;
  bool trains(std::size_t u) const { return layout_.units[u].trains(); }
  bool reads_trained(const Unit& unit) const;
  bool sharded() const { return mesh_.shard_degree > 1; }

  Layout layout_;
  Mesh mesh_;
  EnginePolicy policy_;
  std::vector<Unit> units_;
  std::vector<FlatUnit> flat_;
  std::vector<UnitState> states_;
  std::unique_ptr<CallHooks> hooks_;
  std::unique_ptr<BufferPool> weight_pool_, gradient_pool_;
  std::vector<std::size_t> scattering_;                       // units whose reduce-scatter is in flight, oldest first
  std::vector<std::pair<std::size_t, Pending>> replicating_;  // units whose all-reduce is in flight
  at::Tensor anchor_;  // a leaf that makes every unit call differentiable, even the table's, whose input is integers
  bool last_micro_batch_ = true;
};

// Compares the hash of every rank's master weights with that of its shard's first replica. Replicas apply equal updates
// to equal weights, so a difference comes from a faulty device or a bug. Throws DivergedError on every rank, naming two
// ranks that differ.
void check_replicas(const ShardEngine& engine, Peers& peers, std::int64_t step);

at::ScalarType master_type(Precision precision);   // type of master weights, gradients and optimizer state
at::ScalarType compute_type(Precision precision);  // type in which the forward and backward passes compute

}  // namespace norma
