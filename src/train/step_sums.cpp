#include "step_sums.h"

#include <ATen/ATen.h>

namespace norma {
namespace {

HostSums zero_sums(const ModelConfig& model) {
  const HostSums::Layer layer{.pairs = std::vector<double>(static_cast<std::size_t>(model.moe.num_experts)),
                              .entropy = 0.0};
  return {.cross_entropy = 0.0,
          .squared_lse = 0.0,
          .load_balancing = 0.0,
          .router_z = 0.0,
          .layers = std::vector<HostSums::Layer>(model.moe_layers().size(), layer)};
}

}  // namespace

DeviceSums::DeviceSums(const ModelConfig& model, at::Device device) : zeros_(zero_sums(model)) {
  std::vector<double> row;
  zeros_.visit(RowWriter{row});
  row_ = at::zeros({static_cast<std::int64_t>(row.size())}, at::TensorOptions().dtype(at::kDouble).device(device));
}

void DeviceSums::add(const ModelLoss& loss) {
  using Sums = PassSums<at::Tensor, at::Tensor>;
  Sums sums{.cross_entropy = loss.token_ce.sum(at::kDouble),
            .squared_lse = loss.token_lse.square().sum(at::kDouble),
            .load_balancing = loss.load_balancing,
            .router_z = loss.router_z,
            .layers = {}};
  for (const LayerRouting& layer : loss.routing) {
    sums.layers.push_back({.pairs = layer.counts, .entropy = layer.entropy});
  }
  std::vector<at::Tensor> parts;
  sums.visit([&](const at::Tensor& field) {
    parts.push_back(field.defined() ? field.to(at::kDouble).flatten() : at::zeros({1}, row_.options()));
  });
  row_.add_(at::cat(parts));
}

HostSums DeviceSums::read() const {
  const at::Tensor host = row_.to(at::kCPU);
  HostSums sums = zeros_;
  sums.visit(RowReader{host.const_data_ptr<double>()});
  return sums;
}

}  // namespace norma
