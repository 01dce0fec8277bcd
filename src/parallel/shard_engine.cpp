#include "norma/parallel/shard_engine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

namespace norma {

at::ScalarType master_type(Precision precision) {
  return precision == Precision::fp64 ? at::kDouble : at::kFloat;
}

at::ScalarType compute_type(Precision precision) {
  return precision == Precision::bf16 ? at::kBFloat16 : master_type(precision);
}

namespace {

// Makes `parameter` a leaf over its range of the compute buffer, with .grad a view of the gradient buffer.
// Leaves come from variable_data(), so that writing the flat buffer does not count as changing them in place.
void bind(const at::Tensor& parameter, const TensorSpan& span, const at::Tensor& compute, const at::Tensor& gradient) {
  NORMA_CHECK(parameter.sizes() == at::IntArrayRef(span.shape), "[engine] ", span.name, " is ", parameter.sizes(),
              " in the model, its layout says ", at::IntArrayRef(span.shape));
  parameter.set_requires_grad(false);
  parameter.set_data(ShardEngine::view(compute.variable_data(), span));
  if (!gradient.defined()) return;
  parameter.set_requires_grad(true);
  // A bf16 leaf takes fp32 gradients, so that micro-batches add up in fp32.
  if (parameter.scalar_type() != gradient.scalar_type()) parameter.set_grad_dtype(gradient.scalar_type());
  parameter.mutable_grad() = ShardEngine::view(gradient.variable_data(), span);
}

}  // namespace

at::Tensor ShardEngine::view(const at::Tensor& flat, const TensorSpan& span) {
  return flat.narrow(0, span.offset, span.numel).view(span.shape);
}

ShardEngine::ShardEngine(const std::vector<Unit>& units, Layout layout, Precision precision, at::Device device,
                         Purpose purpose)
    : layout_(std::move(layout)) {
  NORMA_CHECK(units.size() == layout_.units.size(), "[engine] ", units.size(), " units, ", layout_.units.size(),
              " in the layout");
  const c10::NoGradGuard no_grad;
  const auto options = at::TensorOptions().dtype(master_type(precision)).device(device);
  for (std::size_t u = 0; u < units.size(); ++u) {
    const UnitLayout& unit = layout_.units[u];
    FlatUnit flat{at::zeros({unit.numel}, options), {}, unit.decay_end};
    if (purpose == Purpose::training) flat.gradient = at::zeros({unit.numel}, options);
    const bool one_buffer = compute_type(precision) == master_type(precision);
    const at::Tensor compute = one_buffer ? flat.master : at::zeros_like(flat.master, compute_type(precision));
    NORMA_CHECK(units[u].parameters.size() == unit.tensors.size(), "[engine] unit ", unit.name, " has ",
                units[u].parameters.size(), " parameters, its layout ", unit.tensors.size());
    for (const UnitParameter& parameter : units[u].parameters) {
      const TensorSpan* span = layout_.find(parameter.name);
      NORMA_CHECK(span != nullptr, "[engine] no place for ", parameter.name);
      bind(parameter.tensor, *span, compute, flat.gradient);
    }
    flat_.push_back(flat);
    compute_.push_back(compute);
  }
}

TensorList ShardEngine::run(const Unit&, const UnitBody& body, const TensorList& inputs) {
  return body(inputs);
}

void ShardEngine::clear_gradients() {
  const c10::NoGradGuard no_grad;
  for (FlatUnit& unit : flat_) unit.gradient.zero_();
}

void ShardEngine::refresh_compute() {
  const c10::NoGradGuard no_grad;
  for (std::size_t u = 0; u < flat_.size(); ++u) {
    if (!compute_[u].is_same(flat_[u].master)) compute_[u].copy_(flat_[u].master);
  }
}

}  // namespace norma
