// The transformer: embedding, blocks, final norm and head; every unit goes through a UnitRunner.
//
// Shapes: B batch, T time, D model, H query heads, K kv heads, E head dim, F mlp, V rows of the embedding.
// Model: OLMo 2 / HybridNorm (GQA, half-split RoPE, SwiGLU or experts of it, no biases) or DeepSeek (latent attention);
// norms as the NormPlan says.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <torch/nn/module.h>

#include "norma/base/unit.h"
#include "norma/config/config.h"
#include "norma/kernels/ops.h"
#include "norma/model/decode_cache.h"
#include "norma/norm/plan.h"

namespace norma {

class BlockImpl;
struct RoutingTerms;

// How a micro-batch's loss is scaled: its summed cross-entropy is multiplied by `scale` (one over the tokens
// of the whole batch), so that micro-batches just add. The experts' losses are means over a micro-batch's tokens and
// are multiplied by `auxiliary_scale`, one over the number of micro-batches of all ranks; 0 leaves them out.
struct LossOptions {
  double scale = 1.0;
  double z_weight = 0.0;
  std::int64_t chunk_tokens = 1024;
  double auxiliary_scale = 0.0;
};

// Where a layer's tokens went.
struct LayerRouting {
  std::int64_t layer = 0;
  at::Tensor counts;   // [E] int64: (token, expert) pairs of each expert
  at::Tensor entropy;  // scalar: sum over tokens of the router's entropy, in nats
};

struct ModelLoss {
  at::Tensor loss;                      // scalar, differentiable: everything weighted and scaled
  at::Tensor token_ce, token_lse;       // [B, T], see CrossEntropy
  at::Tensor load_balancing, router_z;  // scalars, parts of `loss`; undefined when there are none in it
  std::vector<LayerRouting> routing;    // of the layers with experts, in order
};

class Transformer : public torch::nn::Module {
 public:
  // Parameters are shaped placeholders without memory until an engine binds storage to them (parallel/).
  Transformer(const ModelConfig& config, const NormPlan& plan);

  // The units in the order of the forward pass; their parameters share the module's tensors.
  const std::vector<Unit>& units() const { return units_; }
  const ModelConfig& config() const { return config_; }

  // Next-token loss of ids [B, T]: position t predicts t + 1, the last position has no target.
  ModelLoss loss(const at::Tensor& ids, const LossOptions& options, UnitRunner& runner);

  // log p of `targets` [N], each predicted by the hidden state at `places` [N], flat indices into ids [B, T]: [N] in
  // acc(dtype). Not differentiable; with a cache, ids continue what it has seen.
  at::Tensor log_probabilities(const at::Tensor& ids, const at::Tensor& places, const at::Tensor& targets,
                               std::int64_t chunk_tokens, UnitRunner& runner, DecodeCache* cache = nullptr);

  // Logits [B, T, V] of ids [B, T]; with a cache, ids continue what the cache has seen.
  at::Tensor logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache = nullptr);

  // Those of the last position alone, [B, V].
  at::Tensor next_logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache& cache);

 private:
  struct Hidden;
  Hidden hidden(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache,
                const std::optional<at::Tensor>& places = std::nullopt);
  at::Tensor to_logits(const at::Tensor& x, UnitRunner& runner);  // [B, T, D] -> [B, T, V]
  void make_rope(at::Device device);
  void add_auxiliary_losses(const std::vector<RoutingTerms>& routing, double scale, ModelLoss& loss) const;
  void collect_units();

  ModelConfig config_;
  std::shared_ptr<torch::nn::Module> embedding_, head_;
  std::vector<std::shared_ptr<BlockImpl>> blocks_;
  std::vector<std::int64_t> moe_layers_;
  std::shared_ptr<class NormImpl> embedding_norm_, final_norm_;
  at::Tensor embedding_weight_, head_weight_;
  RopeTable rope_;
  std::vector<Unit> units_;
};

}  // namespace norma
