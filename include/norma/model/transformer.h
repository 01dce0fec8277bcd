// The dense transformer: embedding, blocks, final norm and head; every unit goes through a UnitRunner.
//
// Shapes: B batch, T time, D model, H query heads, K kv heads, E head dim, F mlp, V rows of the embedding.
// Model: OLMo 2 / HybridNorm (GQA, half-split RoPE, SwiGLU, no biases); norms as the NormPlan says.
#pragma once

#include <memory>
#include <vector>

#include <torch/nn/module.h>

#include "norma/base/unit.h"
#include "norma/config/config.h"
#include "norma/kernels/ops.h"
#include "norma/norm/plan.h"

namespace norma {

class BlockImpl;

// Keys and values of the tokens a model has seen, per layer: [B, S, K, E], keys already rotated.
struct DecodeCache {
  std::vector<at::Tensor> keys, values;
  at::Tensor ids;           // [B, S] the tokens themselves: documents are told apart by them
  std::int64_t length = 0;  // tokens seen
};

// How a micro-batch's loss is scaled: its summed cross-entropy is multiplied by `scale` (one over the tokens
// of the whole batch), so that micro-batches just add.
struct LossOptions {
  double scale = 1.0;
  double z_weight = 0.0;
  std::int64_t chunk_tokens = 1024;
};

class Transformer : public torch::nn::Module {
 public:
  // Parameters are shaped placeholders without memory until an engine binds storage to them (parallel/).
  Transformer(const ModelConfig& config, const NormPlan& plan);

  // The units in the order of the forward pass; their parameters share the module's tensors.
  const std::vector<Unit>& units() const { return units_; }
  const ModelConfig& config() const { return config_; }

  // Next-token loss of ids [B, T]: position t predicts t + 1, the last position has no target.
  // token_ce and token_lse of the result are [B, T].
  CrossEntropy loss(const at::Tensor& ids, const LossOptions& options, UnitRunner& runner);

  // Logits [B, T, V] of ids [B, T]; with a cache, ids continue what the cache has seen.
  at::Tensor logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache = nullptr);

 private:
  at::Tensor hidden(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache);
  void collect_units();

  ModelConfig config_;
  std::shared_ptr<torch::nn::Module> embedding_, head_;
  std::vector<std::shared_ptr<BlockImpl>> blocks_;
  std::shared_ptr<class NormImpl> embedding_norm_, final_norm_;
  at::Tensor embedding_weight_, head_weight_;
  RopeTable rope_;
  std::vector<Unit> units_;
};

}  // namespace norma
