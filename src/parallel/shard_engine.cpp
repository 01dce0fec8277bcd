#include "norma/parallel/shard_engine.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

#include "buffer_pool.h"
#include "unit_call.h"

namespace norma {

at::ScalarType master_type(Precision precision) {
  return precision == Precision::fp64 ? at::kDouble : at::kFloat;
}

at::ScalarType compute_type(Precision precision) {
  return precision == Precision::bf16 ? at::kBFloat16 : master_type(precision);
}

namespace {

constexpr std::size_t kScattersInFlight = 1;  // beside the unit whose gradient is being made

// Makes `parameter` a leaf over its range of the compute buffer; unless it is frozen, its .grad is a view of the
// gradient buffer. Leaves come from variable_data(), so that writing the flat buffer does not count as changing them in
// place.
void bind_leaf(const at::Tensor& parameter, const TensorSpan& span, const at::Tensor& compute,
               const at::Tensor& gradient) {
  NORMA_CHECK(parameter.sizes() == at::IntArrayRef(span.shape), "[engine] ", span.name, " is ", parameter.sizes(),
              " in the model, its layout says ", at::IntArrayRef(span.shape));
  parameter.set_requires_grad(false);
  parameter.set_data(ShardEngine::view(compute.variable_data(), span));
  if (!gradient.defined() || span.frozen) return;
  parameter.set_requires_grad(true);
  // A bf16 leaf takes fp32 gradients, so that micro-batches add up in fp32.
  if (parameter.scalar_type() != gradient.scalar_type()) parameter.set_grad_dtype(gradient.scalar_type());
  parameter.mutable_grad() = ShardEngine::view(gradient.variable_data(), span);
}

}  // namespace

// A unit's whole buffers on this rank and their state.
struct ShardEngine::UnitState {
  ShardSpan shard;
  at::Tensor compute;         // [whole] the weights the forward pass reads; the master itself where it can be
  at::Tensor gradient;        // [whole] what backward passes add to; the shard's gradient itself at shard degree 1
  bool gathered = false;      // compute holds this step's weights
  Pending gather;             // the all-gather in flight, while gathered is false
  int holders = 0;            // number of calls that read `compute` at present
  int uses = 0;               // number of forward calls whose backward pass is still to come
  Pending scatter;            // the gradient's reduce-scatter
  at::Tensor scatter_target;  // its result, unless that is the shard's gradient itself
};

struct ShardEngine::CallHooks : UnitCallHooks {
  explicit CallHooks(ShardEngine& e) : engine(e) {}
  bool reads_trained(const Unit& unit) const override { return engine.reads_trained(unit); }
  void before_forward(const Unit& unit) override { engine.before_forward(unit); }
  bool after_forward(const Unit& unit, bool differentiable) override {
    return engine.after_forward(unit, differentiable);
  }
  void before_backward(const Unit& unit, bool recompute, bool kept) override {
    engine.before_backward(unit, recompute, kept);
  }
  void after_backward(const Unit& unit) override { engine.after_backward(unit); }

  ShardEngine& engine;
};

at::Tensor ShardEngine::view(const at::Tensor& flat, const TensorSpan& span) {
  return flat.narrow(0, span.offset, span.numel).view(span.shape);
}

ShardEngine::ShardEngine(const std::vector<Unit>& units, Layout layout, Precision precision, at::Device device,
                         Purpose purpose, const Mesh& mesh, EnginePolicy policy)
    : layout_(std::move(layout)),
      mesh_(mesh),
      policy_(std::move(policy)),
      units_(units),
      hooks_(std::make_unique<CallHooks>(*this)),
      weight_pool_(std::make_unique<BufferPool>(device, policy_.poison_released)),
      gradient_pool_(std::make_unique<BufferPool>(device, policy_.poison_released)),
      anchor_(at::zeros({}, at::TensorOptions().device(device)).requires_grad_()) {
  NORMA_CHECK(units.size() == layout_.units.size(), "[engine] ", units.size(), " units, ", layout_.units.size(),
              " in the layout");
  const c10::NoGradGuard no_grad;
  states_.resize(units.size());
  for (std::size_t u = 0; u < units.size(); ++u) bind(units[u], u, precision, device, purpose);
}

ShardEngine::~ShardEngine() = default;

void ShardEngine::bind(const Unit& unit, std::size_t u, Precision precision, at::Device device, Purpose purpose) {
  const UnitLayout& layout = layout_.units[u];
  UnitState& state = states_[u];
  state.shard = shard_of(layout, mesh_.shard_degree, mesh_.shard_rank);
  const std::int64_t whole = state.shard.numel * mesh_.shard_degree;
  const auto options = at::TensorOptions().dtype(master_type(precision)).device(device);
  const bool training = purpose == Purpose::training, one_type = compute_type(precision) == master_type(precision);
  FlatUnit flat;
  flat.master = at::zeros({state.shard.numel}, options);
  const auto inside = [&](std::int64_t end) {
    return std::clamp<std::int64_t>(end - state.shard.begin, 0, state.shard.numel);
  };
  flat.decay_end = inside(layout.decay_end);
  flat.trained_end = inside(layout.trained_end);
  if (training) flat.gradient = at::zeros({state.shard.numel}, options);

  if (!sharded()) {
    state.compute = one_type ? flat.master : at::zeros({whole}, options.dtype(compute_type(precision)));
    state.gradient = flat.gradient;
    state.gathered = true;
  } else {
    state.compute = policy_.reshard_after_forward ? weight_pool_->make_borrower(whole, compute_type(precision))
                                                  : at::zeros({whole}, options.dtype(compute_type(precision)));
    if (training && trains(u)) state.gradient = gradient_pool_->make_borrower(whole, master_type(precision));
  }
  NORMA_CHECK(unit.parameters.size() == layout.tensors.size(), "[engine] unit ", layout.name, " has ",
              unit.parameters.size(), " parameters, its layout ", layout.tensors.size());
  for (const UnitParameter& parameter : unit.parameters) {
    const TensorSpan* span = layout_.find(parameter.name);
    NORMA_CHECK(span != nullptr, "[engine] the layout has no ", parameter.name);
    bind_leaf(parameter.tensor, *span, state.compute, state.gradient);
  }
  flat_.push_back(flat);
}

std::vector<at::Tensor> ShardEngine::masters() const {
  std::vector<at::Tensor> masters;
  for (const FlatUnit& unit : flat_) masters.push_back(unit.master);
  return masters;
}

std::vector<ShardPiece> ShardEngine::pieces() const {
  return pieces_of(layout_, mesh_.shard_degree, mesh_.shard_rank);
}

void ShardEngine::fill(const WeightReader& reader) {
  const c10::NoGradGuard no_grad;
  norma::fill(pieces(), masters(), reader);
  refresh_compute();
}

TensorList ShardEngine::run(const Unit& unit, const UnitBody& body, const TensorList& inputs) {
  const auto index = static_cast<std::size_t>(unit.index);
  if (c10::GradMode::is_enabled() && flat_[index].gradient.defined()) {
    return call_unit(*hooks_, units_[index], body, inputs, policy_.recomputes(index), anchor_);
  }
  for (const std::size_t u : units_read_by(unit)) acquire(u);
  prefetch(unit.index + 1, /*for_backward=*/false);
  TensorList outputs = body(inputs);
  for (const std::size_t u : units_read_by(unit)) release(u);
  return outputs;
}

// ---- Around a call under autograd ----

void ShardEngine::before_forward(const Unit& unit) {
  for (const std::size_t u : units_read_by(unit)) {
    acquire(u);
    ++states_[u].uses;
  }
  prefetch(unit.index + 1, /*for_backward=*/false);
}

bool ShardEngine::after_forward(const Unit& unit, bool differentiable) {
  if (differentiable && unit.role == UnitRole::head) return true;  // its backward pass comes next
  for (const std::size_t u : units_read_by(unit)) {
    if (!differentiable) --states_[u].uses;
    release(u);
  }
  return false;
}

void ShardEngine::before_backward(const Unit& unit, bool recompute, bool kept) {
  const std::vector<std::size_t> read = units_read_by(unit);
  if (!kept && (recompute || unit.backward_reads_parameters)) {
    for (const std::size_t u : read) acquire(u);
  }
  prefetch(unit.index - 1, /*for_backward=*/true);
  for (const std::size_t u : read) prepare_gradient(u);
}

void ShardEngine::after_backward(const Unit& unit) {
  for (const std::size_t u : units_read_by(unit)) {
    if (states_[u].holders > 0) release(u);
    if (--states_[u].uses == 0) start_reduce(u);
  }
}

bool ShardEngine::reads_trained(const Unit& unit) const {
  const std::vector<std::size_t> read = units_read_by(unit);
  return std::any_of(read.begin(), read.end(), [&](std::size_t u) { return trains(u); });
}

std::vector<std::size_t> ShardEngine::units_read_by(const Unit& unit) const {
  std::vector<std::size_t> read = {static_cast<std::size_t>(unit.index)};
  for (const int other : unit.also_needs) read.push_back(static_cast<std::size_t>(other));
  return read;
}

// ---- Weights: released -> gathering -> gathered -> released ----

void ShardEngine::start_gather(std::size_t u) {
  UnitState& state = states_[u];
  if (state.gathered || state.gather.in_flight()) return;
  const c10::NoGradGuard no_grad;
  if (policy_.reshard_after_forward) weight_pool_->lend(state.compute);
  const at::Tensor& master = flat_[u].master;
  at::Tensor part = master;
  if (master.scalar_type() != state.compute.scalar_type()) {
    part = state.compute.narrow(0, state.shard.begin, state.shard.numel);
    part.copy_(master);
  }
  state.gather = mesh_.gather->all_gather(state.compute, part, layout_.units[u].name);
}

void ShardEngine::acquire(std::size_t u) {
  UnitState& state = states_[u];
  if (!state.gathered) {
    start_gather(u);
    state.gather.wait();
    state.gathered = true;
  }
  ++state.holders;
}

void ShardEngine::release(std::size_t u) {
  UnitState& state = states_[u];
  NORMA_CHECK(state.holders > 0, "[engine] ", layout_.units[u].name, " released more often than acquired");
  if (--state.holders > 0 || !sharded() || !policy_.reshard_after_forward) return;
  weight_pool_->take_back(state.compute);
  state.gathered = false;
}

// Starts to gather what the next call reads while the present one runs.
void ShardEngine::prefetch(int index, bool for_backward) {
  if (!sharded() || index < 0 || index >= static_cast<int>(units_.size())) return;
  const auto next = static_cast<std::size_t>(index);
  const Unit& unit = units_[next];
  if (for_backward) {
    const bool comes = states_[next].uses > 0;
    if (!comes || (!unit.backward_reads_parameters && !policy_.recomputes(next))) return;
  }
  for (const std::size_t u : units_read_by(unit)) start_gather(u);
}

// ---- Gradients: empty -> filling -> scattering -> in the shard -> (replicating) -> complete ----

void ShardEngine::prepare_gradient(std::size_t u) {
  UnitState& state = states_[u];
  if (!sharded() || !trains(u)) return;
  if (state.scatter.in_flight()) finish_scatter(u);
  if (BufferPool::has_memory(state.gradient)) return;  // an earlier micro-batch or use added to it
  while (scattering_.size() > kScattersInFlight) finish_scatter(scattering_.front());
  const c10::NoGradGuard no_grad;
  gradient_pool_->lend(state.gradient);
  state.gradient.zero_();
}

void ShardEngine::start_reduce(std::size_t u) {
  if (!trains(u)) return;
  UnitState& state = states_[u];
  const at::Tensor& mine = flat_[u].gradient;
  const std::string& name = layout_.units[u].name;
  const c10::NoGradGuard no_grad;
  if (!sharded()) {
    if (last_micro_batch_ && mesh_.replicate_degree > 1) {
      replicating_.emplace_back(u, mesh_.replicas->all_reduce(mine, name));
    }
    return;
  }
  if (!last_micro_batch_ && !policy_.reduce_every_micro_batch) return;
  at::Tensor whole = state.gradient;
  const bool round = policy_.reduce_in_bf16 && mine.scalar_type() == at::kFloat;
  if (round) whole = whole.to(at::kBFloat16);
  const bool straight = !round && !policy_.reduce_every_micro_batch;
  state.scatter_target = straight ? at::Tensor() : at::empty(mine.sizes(), whole.options());
  state.scatter = mesh_.reduce->reduce_scatter(straight ? mine : state.scatter_target, whole, name);
  scattering_.push_back(u);
}

// Waits for a unit's reduce-scatter, gives its gradient's memory back and lets the replicas add up.
void ShardEngine::finish_scatter(std::size_t u) {
  UnitState& state = states_[u];
  const c10::NoGradGuard no_grad;
  state.scatter.wait();
  scattering_.erase(std::find(scattering_.begin(), scattering_.end(), u));
  const at::Tensor& mine = flat_[u].gradient;
  if (state.scatter_target.defined()) {
    mine.add_(state.scatter_target);  // earlier micro-batches' sum, or zero
    state.scatter_target.reset();
  }
  gradient_pool_->take_back(state.gradient);
  if (last_micro_batch_ && mesh_.replicate_degree > 1) {
    replicating_.emplace_back(u, mesh_.replicas->all_reduce(mine, layout_.units[u].name));
  }
}

// ---- Phases of a training step ----

void ShardEngine::clear_gradients() {
  const c10::NoGradGuard no_grad;
  forget_calls();
  for (FlatUnit& unit : flat_) unit.gradient.zero_();
}

void ShardEngine::begin_micro_batch(bool last) {
  // What is in flight belongs to the micro-batch before: every replica must add up the same ones.
  while (!scattering_.empty()) finish_scatter(scattering_.front());
  last_micro_batch_ = last;
}

void ShardEngine::finish_gradients() {
  while (!scattering_.empty()) finish_scatter(scattering_.front());
  for (auto& [u, pending] : replicating_) pending.wait();
  replicating_.clear();
}

void ShardEngine::refresh_compute() {
  const c10::NoGradGuard no_grad;
  for (std::size_t u = 0; u < flat_.size(); ++u) {
    UnitState& state = states_[u];
    if (sharded()) {
      state.gather.wait();  // it was started for a call that was never made
      if (state.holders > 0) continue;
      if (policy_.reshard_after_forward && BufferPool::has_memory(state.compute))
        weight_pool_->take_back(state.compute);
      state.gathered = false;
    } else if (!state.compute.is_same(flat_[u].master)) {
      state.compute.copy_(flat_[u].master);
    }
  }
}

// Called after a step that did not end, or after forward passes without a backward pass.
void ShardEngine::forget_calls() {
  for (std::size_t u = 0; u < states_.size(); ++u) {
    UnitState& state = states_[u];
    state.uses = 0;
    if (!sharded()) {
      state.holders = 0;
      continue;
    }
    state.scatter.wait();
    state.scatter_target.reset();
    if (state.gradient.defined() && BufferPool::has_memory(state.gradient)) gradient_pool_->take_back(state.gradient);
    if (state.holders > 0) {
      state.holders = 1;
      release(u);
    }
  }
  scattering_.clear();
  for (auto& [u, pending] : replicating_) pending.wait();
  replicating_.clear();
  last_micro_batch_ = true;
}

int ShardEngine::peak_weight_buffers() const {
  return weight_pool_->peak();
}
std::int64_t ShardEngine::pooled_bytes() const {
  return weight_pool_->bytes() + gradient_pool_->bytes();
}
int ShardEngine::peak_gradient_buffers() const {
  return gradient_pool_->peak();
}

}  // namespace norma
