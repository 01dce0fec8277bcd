// Flat storage of a model's parameters, and the runner that the model's units go through.
//
// Each unit owns one flat buffer per purpose, laid out by its UnitLayout: the master weights that the
// optimizer updates, the compute copy that the forward pass reads, and the gradient that micro-batches add
// to. In fp32 and fp64 master and compute are one buffer; in bf16 the compute copy and the stream are bf16
// while master and gradient stay fp32. The module's parameters become leaves over the compute buffer, their
// .grad views of the gradient buffer.
//
// This engine runs at shard degree 1 and replicate degree 1: every buffer is whole and nothing is
// communicated.
#pragma once

#include <string>
#include <vector>

#include "norma/base/layout.h"
#include "norma/base/unit.h"
#include "norma/config/config.h"

namespace norma {

enum class Purpose { training, inference };  // inference has no gradients

class ShardEngine : public UnitRunner {
 public:
  // Gives the units' parameters their storage on `device`. `layout` must name exactly these parameters.
  ShardEngine(const std::vector<Unit>& units, Layout layout, Precision precision, at::Device device,
              Purpose purpose = Purpose::training);

  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override;

  const Layout& layout() const { return layout_; }
  // Master and gradient (undefined for inference) of every unit, in the layout's order.
  const std::vector<FlatUnit>& flat_units() const { return flat_; }
  // A tensor inside a flat buffer that is ordered like flat_units(): a view [shape].
  static at::Tensor view(const at::Tensor& flat, const TensorSpan& span);

  // Before the first micro-batch of a step.
  void clear_gradients();
  // After the optimizer or a loader changed the master weights.
  void refresh_compute();

 private:
  Layout layout_;
  std::vector<FlatUnit> flat_;
  std::vector<at::Tensor> compute_;  // [n]; the master itself unless precision is bf16
};

at::ScalarType master_type(Precision precision);   // of weights, gradients and optimizer state
at::ScalarType compute_type(Precision precision);  // of the forward and backward pass

}  // namespace norma
