// Gradients against finite differences, in float64.
#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace norma::testing {

using Function = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

// Numbers between -1 and 1 that follow a formula.
inline at::Tensor wave(at::IntArrayRef shape, double phase) {
  at::Tensor x = at::zeros(shape, at::kDouble);
  return at::sin(at::arange(1, x.numel() + 1, at::kDouble) * 0.7 + phase).view(shape);
}

// Compares the gradient of sum(w * f(x)) with central differences, element by element.
inline void gradcheck(const Function& f, std::vector<at::Tensor> inputs) {
  for (at::Tensor& input : inputs) input = input.clone().set_requires_grad(true);
  const at::Tensor out = f(inputs);
  const at::Tensor weights = wave(out.sizes(), 0.3);
  const auto value = [&] {
    const c10::NoGradGuard no_grad;
    return (f(inputs) * weights).sum().item<double>();
  };
  const auto grads = torch::autograd::grad({out}, {inputs.begin(), inputs.end()}, {weights});
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const at::Tensor grad = grads[i].contiguous();
    ASSERT_EQ(grad.sizes(), inputs[i].sizes());
    auto* x = inputs[i].mutable_data_ptr<double>();
    const auto* g = grad.const_data_ptr<double>();
    const double scale = std::max(1.0, grad.abs().max().item<double>());
    for (std::int64_t e = 0; e < grad.numel(); ++e) {
      constexpr double kStep = 1e-5;
      const double kept = x[e];
      x[e] = kept + kStep;
      const double above = value();
      x[e] = kept - kStep;
      const double below = value();
      x[e] = kept;
      EXPECT_NEAR(g[e], (above - below) / (2 * kStep), 1e-8 * scale) << "input " << i << ", element " << e;
    }
  }
}

}  // namespace norma::testing
