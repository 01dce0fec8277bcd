// What the passes of a step add up: one row of doubles, summed on the device and read once.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/model/transformer.h"

namespace norma {

// The row by name: tensors on the device, or doubles on the host.
template <class Number, class Numbers>
struct PassSums {
  struct Layer {
    Numbers pairs;   // [E] (token, expert) pairs of each expert
    Number entropy;  // of the router's scores, in nats
  };

  Number cross_entropy;       // in nats, over all targets
  Number squared_lse;         // squares of the log softmax denominators
  Number load_balancing;      // weighted and scaled as in the loss
  Number router_z;            // likewise
  std::vector<Layer> layers;  // those with experts, in order

  // Calls f(field) for every field in the order of the row.
  template <class F>
  void visit(F&& f) {
    f(cross_entropy);
    f(squared_lse);
    f(load_balancing);
    f(router_z);
    for (Layer& layer : layers) {
      f(layer.pairs);
      f(layer.entropy);
    }
  }
};

using HostSums = PassSums<double, std::vector<double>>;

// Writes visited fields into a row.
struct RowWriter {
  std::vector<double>& row;
  void operator()(double field) const { row.push_back(field); }
  void operator()(const std::vector<double>& field) const { row.insert(row.end(), field.begin(), field.end()); }
};

// Reads visited fields from a row. Lists keep their lengths.
struct RowReader {
  const double* next;
  void operator()(double& field) { field = *next++; }
  void operator()(std::vector<double>& field) {
    for (double& value : field) value = *next++;
  }
};

class DeviceSums {
 public:
  DeviceSums(const ModelConfig& model, at::Device device);
  void add(const ModelLoss& loss);
  HostSums read() const;  // waits for the device

 private:
  HostSums zeros_;  // as long as the row
  at::Tensor row_;
};

}  // namespace norma
