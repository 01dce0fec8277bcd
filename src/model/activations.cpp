// Estimates of activations: what the forward pass keeps for the backward pass, and what both need at their peak.
// Counted per token and in elements of the compute type unless said otherwise.
#include <algorithm>

#include "norma/model/cost.h"

namespace norma {
namespace {

std::int64_t bytes_of(Precision precision, bool compute) {
  if (precision == Precision::fp64) return 8;
  return compute && precision == Precision::bf16 ? 2 : 4;
}

std::int64_t count_norms(const ResidualWiring& wiring) {
  std::int64_t count = 0;
  visit_wiring_sites([&](const SiteInfo&, const NormSite& site) { count += site.present() ? 1 : 0; }, wiring);
  return count;
}

// The norms inside attention keep their inputs.
std::int64_t kept_by_norms(const ModelConfig& m, const InnerNorms& inner) {
  std::int64_t kept = 0;
  const auto add = [&](const SiteInfo& info, const NormSite& site) {
    if (site.present()) kept += site_shape(info.input, inner, m).elements();
  };
  visit_inner_sites(add, inner);
  return kept;
}

// What an MLP keeps besides its input.
std::int64_t kept_by_mlp(const ModelConfig& m, MlpKind kind) {
  if (kind == MlpKind::dense) return 3 * m.mlp_dim;                              // up|gate, and the input of down
  const std::int64_t routed = m.moe.top_k * (m.d_model + 2 * m.expert_width());  // inputs by expert, their up|gate
  return routed + 2 * m.moe.num_experts + 3 * m.shared_width();
}

// What attention keeps besides its input.
std::int64_t kept_by_attention(const ModelConfig& m, const InnerNorms& inner) {
  std::int64_t kept = m.qkv_width();  // q, k, v as attention reads them
  kept += 2 * m.q_width();            // attention's output, and as the output matrix reads it
  return kept + kept_by_norms(m, inner);
}

std::int64_t kept_by_latent_attention(const ModelConfig& m, const InnerNorms& inner) {
  std::int64_t kept = 2 * m.q_width() + m.context_width();  // q, k, v as attention reads them
  kept += 2 * m.context_width();                            // its output, and as the output matrix reads it
  kept += m.q_rank() + m.kv_rank();                         // what the up projections read
  return kept + kept_by_norms(m, inner);
}

// The matrix products in attention, which selective recomputation keeps.
std::int64_t attention_products(const ModelConfig& m) {
  return m.is_latent() ? m.q_rank() + m.q_width() + m.latent_width() + m.kv_up_width() : m.qkv_width();
}

// What a block keeps.
std::int64_t kept_per_token(const ModelConfig& m, const LayerPolicy& layer, MlpKind kind) {
  std::int64_t kept = 2 * m.d_model;  // inputs of the projections and of up|gate
  kept += m.is_latent() ? kept_by_latent_attention(m, layer.inner) : kept_by_attention(m, layer.inner);
  kept += kept_by_mlp(m, kind);
  kept += m.d_model * (count_norms(layer.attention) + count_norms(layer.mlp));
  return kept;
}

// What a block keeps with selective recomputation, which computes the cheap inputs of matrix products again: the stream
// and the products.
std::int64_t kept_by_products(const ModelConfig& m, const LayerPolicy& layer, MlpKind kind) {
  std::int64_t norms = 0;  // norms on the input of a branch are computed again, from the stream
  for (const ResidualWiring* wiring : {&layer.attention, &layer.mlp}) {
    norms += count_norms(*wiring) - (wiring->in.present() ? 1 : 0);
  }
  std::int64_t kept = 2 * m.d_model + attention_products(m) + m.d_model * norms;
  kept += kind == MlpKind::dense
              ? 2 * m.mlp_dim
              : m.d_model + 2 * (m.moe.top_k * m.expert_width() + m.moe.num_experts + m.shared_width());
  return kept;
}

// Gradients of an MLP that exist at once: of its output, its input, and twice those of its projections.
std::int64_t mlp_gradients(const ModelConfig& m, MlpKind kind) {
  if (kind == MlpKind::dense) return 2 * m.d_model + 5 * m.mlp_dim;
  return 2 * m.d_model + m.moe.top_k * (2 * m.d_model + 5 * m.expert_width()) + 5 * m.shared_width();
}

struct Kept {
  std::int64_t all = 0;      // by all blocks together, until their backward passes
  std::int64_t besides = 0;  // the most that the backward pass of one block needs besides
};

Kept kept_by_blocks(const RunConfig& config, const NormPlan& plan) {
  const Recompute recompute = config.parallel.recompute;
  Kept kept;
  for (std::size_t l = 0; l < plan.layers.size(); ++l) {
    const auto layer = static_cast<std::int64_t>(l);
    const MlpKind kind = config.model.mlp_kind(layer);
    const std::int64_t whole = kept_per_token(config.model, plan.layers[l], kind);
    const std::int64_t products = kept_by_products(config.model, plan.layers[l], kind);
    const bool whole_again = config.parallel.recomputes_block(layer);
    const bool products_only = recompute == Recompute::selective;
    kept.all += whole_again ? config.model.d_model : products_only ? products : whole;
    const std::int64_t again = whole_again ? whole : products_only ? std::max<std::int64_t>(whole - products, 0) : 0;
    kept.besides = std::max(kept.besides, again + mlp_gradients(config.model, kind));
  }
  return kept;
}

// Bytes that the head and its loss need at their peak besides what the blocks keep: a chunk's logits twice in the wide
// type, or the gradients of these logits and of the head, which is summed in the wide type (linear_cross_entropy).
std::int64_t head_peak(const RunConfig& config, std::int64_t tokens) {
  const std::int64_t wide = bytes_of(config.precision, false), compute = bytes_of(config.precision, true);
  const std::int64_t rows = config.model.rows(), chunk = std::min(config.train.loss_chunk, tokens);
  const std::int64_t head = rows * config.model.d_model, sum = head * wide;
  const std::int64_t at_softmax = 2 * chunk * rows * wide + (tokens > chunk ? sum : 0);
  return std::max(at_softmax, chunk * rows * compute + sum);
}

}  // namespace

std::int64_t cache_bytes_per_token(const ModelConfig& model, const NormPlan& plan, Precision precision) {
  const std::int64_t element = bytes_of(precision, true), factor = bytes_of(precision, false);
  if (!model.is_latent()) return model.num_layers * 2 * model.kv_width() * element;
  std::int64_t bytes = model.num_layers * model.latent_width() * element;
  for (const LayerPolicy& layer : plan.layers) {  // a norm per head leaves one factor per head
    const HeadSite& v = layer.inner.v;
    if (layer.inner.k.present()) bytes += model.num_heads * factor;
    if (v.present()) bytes += (v.granularity == Granularity::whole ? 1 : model.num_heads) * factor;
  }
  return bytes;
}

std::int64_t activation_bytes(const RunConfig& config, const NormPlan& plan, std::int64_t micro_batch) {
  const std::int64_t tokens = micro_batch * config.model.sequence_length;
  const std::int64_t element = bytes_of(config.precision, /*compute=*/true);
  const Kept kept = kept_by_blocks(config, plan);
  return tokens * (config.model.d_model + kept.all) * element +
         std::max(head_peak(config, tokens), tokens * kept.besides * element);
}

}  // namespace norma
