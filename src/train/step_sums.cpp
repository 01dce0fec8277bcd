#include "step_sums.h"

#include <numeric>

#include <ATen/ATen.h>

namespace norma {
namespace {

constexpr std::size_t kLosses = 4;

}  // namespace

StepSums::StepSums(const ModelConfig& model, at::Device device) {
  const auto layers = static_cast<std::int64_t>(model.moe_layers().size());
  sums_ = at::zeros({static_cast<std::int64_t>(kLosses) + layers * (model.moe.num_experts + 1)},
                    at::TensorOptions().dtype(at::kDouble).device(device));
}

void StepSums::add(const ModelLoss& loss) {
  const at::Tensor zero = at::zeros({}, sums_.options());
  const auto scalar = [&](const at::Tensor& x) { return x.defined() ? x.to(at::kDouble).view({1}) : zero.view({1}); };
  std::vector<at::Tensor> row = {loss.token_ce.sum(at::kDouble).view({1}),
                                 loss.token_lse.square().sum(at::kDouble).view({1}), scalar(loss.load_balancing),
                                 scalar(loss.router_z)};
  for (const LayerRouting& layer : loss.routing) {
    row.push_back(layer.counts.to(at::kDouble));
    row.push_back(scalar(layer.entropy));
  }
  sums_.add_(at::cat(row));
}

std::vector<double> StepSums::values() const {
  const at::Tensor host = sums_.to(at::kCPU);
  return {host.const_data_ptr<double>(), host.const_data_ptr<double>() + host.numel()};
}

void StepSums::read(const std::vector<double>& values, const ModelConfig& model, double scale, double z_weight,
                    StepResult& result) {
  result.cross_entropy = values[0] * scale;
  result.z_loss = values[1] * scale * z_weight;
  result.load_balancing_loss = values[2];
  result.router_z_loss = values[3];
  auto next = values.begin() + kLosses;
  for (const std::int64_t layer : model.moe_layers()) {
    const auto end = next + static_cast<std::ptrdiff_t>(model.moe.num_experts);
    StepRouting routing{layer, {next, end}, 0.0};
    const double pairs = std::accumulate(routing.tokens.begin(), routing.tokens.end(), 0.0);
    routing.entropy = *end * static_cast<double>(model.moe.top_k) / pairs;
    result.routing.push_back(std::move(routing));
    next = end + 1;
  }
}

}  // namespace norma
