// What a training process needs beside its states: activations.
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

// Elements per token that the norms inside attention keep: their inputs.
std::int64_t kept_by_norms(const ModelConfig& m, const InnerNorms& inner) {
  std::int64_t kept = 0;
  const auto add = [&](const SiteInfo& info, const NormSite& site) {
    if (site.present()) kept += site_shape(info.input, inner, m).elements();
  };
  visit_inner_sites(add, inner);
  return kept;
}

// Elements per token that an MLP keeps for its backward pass, its input apart.
std::int64_t kept_by_mlp(const ModelConfig& m, MlpKind kind) {
  if (kind == MlpKind::dense) return 3 * m.mlp_dim;                              // up|gate, and the input of down
  const std::int64_t routed = m.moe.top_k * (m.d_model + 2 * m.expert_width());  // rows by expert, their up|gate
  return routed + 2 * m.moe.num_experts + 3 * m.shared_width();
}

// Elements per token that attention keeps for its backward pass, its input apart.
std::int64_t kept_by_attention(const ModelConfig& m, const InnerNorms& inner) {
  std::int64_t kept = m.qkv_width();  // q, k, v as attention reads them
  kept += 2 * m.q_width();            // attention's output, and as the output matrix reads it
  return kept + kept_by_norms(m, inner);
}

std::int64_t kept_by_latent_attention(const ModelConfig& m, const InnerNorms& inner) {
  std::int64_t kept = 2 * m.q_width() + m.context_width();  // q, k, v as attention reads them
  kept += 2 * m.context_width();                            // its output, twice as above
  kept += m.q_rank() + m.kv_rank();                         // what the up projections read
  return kept + kept_by_norms(m, inner);
}

// Products that selective recompute keeps of attention.
std::int64_t attention_products(const ModelConfig& m) {
  return m.is_latent() ? m.q_rank() + m.q_width() + m.latent_width() + m.kv_up_width() : m.qkv_width();
}

// Elements per token that the reference path keeps for the backward pass of one block.
std::int64_t kept_per_token(const ModelConfig& m, const LayerPolicy& layer, MlpKind kind) {
  std::int64_t kept = 2 * m.d_model;  // inputs of the projections and of up|gate
  kept += m.is_latent() ? kept_by_latent_attention(m, layer.inner) : kept_by_attention(m, layer.inner);
  kept += kept_by_mlp(m, kind);
  kept += m.d_model * (count_norms(layer.attention) + count_norms(layer.mlp));
  return kept;
}

// The same when the cheap inputs of matrix products are made again (selective recompute): what is left are the stream
// and the products themselves.
std::int64_t kept_by_products(const ModelConfig& m, const LayerPolicy& layer, MlpKind kind) {
  std::int64_t norms = 0;  // those on inputs are cheap, and their inputs are the stream
  for (const ResidualWiring* wiring : {&layer.attention, &layer.mlp}) {
    norms += count_norms(*wiring) - (wiring->in.present() ? 1 : 0);
  }
  std::int64_t kept = 2 * m.d_model + attention_products(m) + m.d_model * norms;
  kept += kind == MlpKind::dense
              ? 2 * m.mlp_dim
              : m.d_model + 2 * (m.moe.top_k * m.expert_width() + m.moe.num_experts + m.shared_width());
  return kept;
}

// Elements per token of the gradients around an MLP: of its output, its rows, and twice what the projection holds.
std::int64_t mlp_gradients(const ModelConfig& m, MlpKind kind) {
  if (kind == MlpKind::dense) return 2 * m.d_model + 5 * m.mlp_dim;
  return 2 * m.d_model + m.moe.top_k * (2 * m.d_model + 5 * m.expert_width()) + 5 * m.shared_width();
}

// Elements per token that the blocks keep together, and the most that the backward pass of one needs besides.
struct Kept {
  std::int64_t all = 0, besides = 0;
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

// Bytes that the head and its loss need at their peak, beside what the blocks keep: logits of a chunk in the wide type
// twice, or their gradient with the head's, which adds up in the wide type (linear_cross_entropy).
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
  for (const LayerPolicy& layer : plan.layers) {  // norms per head leave one factor each
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
