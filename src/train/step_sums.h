// What the passes of a step report, added up on the device and read once: one row of doubles.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/model/transformer.h"
#include "norma/train/train_step.h"

namespace norma {

class StepSums {
 public:
  StepSums(const ModelConfig& model, at::Device device);
  void add(const ModelLoss& loss);
  std::vector<double> values() const;  // waits for the device; ranks may add theirs up

  // The step's figures from the values of all ranks. scale: one over the tokens of the batch.
  static void read(const std::vector<double>& values, const ModelConfig& model, double scale, double z_weight,
                   StepResult& result);

 private:
  at::Tensor sums_;  // CE, lse^2, balance, router z; then per layer with experts: pairs of each, entropy
};

}  // namespace norma
