// Causal attention of the query heads that share one head of keys and values, on a CPU: FlashAttention-2
// (arXiv 2307.08691) in blocks of 64 that stay in cache, products and softmax in float32. Nothing here knows LibTorch.
#pragma once

#include <cstdint>
#include <vector>

namespace norma::cpu {

enum class Element { float32, bfloat16 };

// One head's rows [T, E] inside a larger tensor: rows lie row_stride elements apart, the heads of a group head_stride.
struct Heads {
  void* data = nullptr;
  std::int64_t row_stride = 0, head_stride = 0;
};

struct GroupShape {
  std::int64_t time = 0;   // T
  std::int64_t width = 0;  // E, a multiple of 16
  std::int64_t heads = 0;  // query heads of the group
  Element element = Element::float32;
  float scale = 1.0F;  // of scores: 1 / sqrt(E)
};

// Buffers of one thread, reused from group to group.
class Workspace {
 public:
  float* get(std::size_t buffer, std::int64_t floats);

 private:
  std::vector<std::vector<float>> buffers_;
};

// q, out [heads][T, E]; k, v [T, E]; lse [heads, T]: the log of each row's softmax denominator.
void attention_forward(const GroupShape& shape, const Heads& q, const Heads& k, const Heads& v, const Heads& out,
                       float* lse, Workspace& workspace);

struct GroupGradients {
  Heads q, k, v;  // overwritten
};
void attention_backward(const GroupShape& shape, const Heads& q, const Heads& k, const Heads& v, const Heads& out,
                        const Heads& grad_out, const float* lse, const GroupGradients& gradients, Workspace& workspace);

}  // namespace norma::cpu
