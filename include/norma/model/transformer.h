// The transformer: embedding, blocks, final norm and head; every unit goes through a UnitRunner.
//
// Shapes: B batch, T time, D model, H query heads, K kv heads, E head dim, F mlp, V rows of the embedding.
// Model: OLMo 2 / HybridNorm (GQA, half-split RoPE, SwiGLU or experts of it, no biases) or DeepSeek (latent attention);
// norms as the NormPlan says.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "norma/base/unit.h"
#include "norma/config/config.h"
#include "norma/model/decode_cache.h"
#include "norma/norm/plan.h"

namespace norma {

struct BlockContext;
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

// Which experts a layer's tokens went to.
struct LayerRouting {
  std::int64_t layer = 0;
  at::Tensor counts;   // [experts] int64: (token, expert) pairs of each expert
  at::Tensor entropy;  // scalar: sum over tokens of the router's entropy, in nats
};

struct ModelLoss {
  at::Tensor loss;                      // scalar, differentiable: the sum of all parts, weighted and scaled
  at::Tensor token_ce, token_lse;       // [B, T], see CrossEntropy
  at::Tensor load_balancing, router_z;  // scalars, parts of `loss`; undefined where it has no such part
  std::vector<LayerRouting> routing;    // of the layers with experts, in order
};

class Transformer {
 public:
  // The parameters, those of model_parameters(), have shapes but no memory until an engine binds storage to them.
  Transformer(const ModelConfig& config, const NormPlan& plan);
  ~Transformer();
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  // In the order of the forward pass; the modules read the same tensors.
  const std::vector<Unit>& units() const { return units_; }
  const ModelConfig& config() const { return config_; }

  // Next-token loss of ids [B, T]: position t predicts t + 1, the last position has no target.
  ModelLoss loss(const at::Tensor& ids, const LossOptions& options, UnitRunner& runner);

  // log p of `targets` [N], each predicted by the hidden state at `positions` [N], flat indices into ids [B, T]: [N] in
  // acc(dtype). Not differentiable; with a cache, ids continue what it has seen.
  at::Tensor log_probabilities(const at::Tensor& ids, const at::Tensor& positions, const at::Tensor& targets,
                               std::int64_t chunk_tokens, UnitRunner& runner, DecodeCache* cache = nullptr);

  // Logits [B, T, V] of ids [B, T]; with a cache, ids continue what the cache has seen.
  at::Tensor logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache = nullptr);

  // The logits of the last position alone, [B, V].
  at::Tensor next_logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache& cache);

 private:
  struct Hidden;
  struct Modules;
  Hidden hidden(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache,
                const std::optional<at::Tensor>& wanted = std::nullopt);
  BlockContext context_of(const at::Tensor& ids, DecodeCache* cache);
  at::Tensor to_logits(const at::Tensor& x, UnitRunner& runner);  // [B, T, D] -> [B, T, V]
  void add_auxiliary_losses(const std::vector<RoutingTerms>& routing, double scale, ModelLoss& loss) const;

  ModelConfig config_;
  std::vector<Unit> units_;
  std::unique_ptr<Modules> modules_;
};

}  // namespace norma
