#include "latent.h"

#include "norma/base/text.h"

namespace norma {
namespace {

// DeepSeek norms both latents under every placement. Its code gives these norms this eps whatever rms_norm_eps is.
constexpr NormSite kLatentNorm = {NormKind::rms, 1e-6, 1.0};

// Why a layer cannot be as planned, or "".
std::string objection(const InnerNorms& inner) {
  if (inner.k.present() && inner.k.granularity == Granularity::whole) {
    return "k cannot be normed over the whole projection: one rotated key is shared by all heads, and such a gain "
           "would turn it into one per head; set norm.layers.all.inner.k.granularity: per_head "
           "and norm.layers.all.inner.rope_key: rms";
  }
  if (inner.k.kind == NormKind::layer || inner.v.kind == NormKind::layer) {
    return cat(inner.k.kind == NormKind::layer ? "k" : "v",
               " cannot have a LayerNorm: decoding works on cached latents, where a norm must be one factor per head, "
               "which a mean is not; allowed: rms, none");
  }
  return "";
}

}  // namespace

void place_latent_norms(const NormSite& norm, const ModelConfig& model, bool whole_keys, NormPlan& plan) {
  for (LayerPolicy& layer : plan.layers) {
    if (model.attention.q_rank) layer.inner.q_latent = kLatentNorm;
    layer.inner.kv_latent = kLatentNorm;
    const bool per_head = layer.inner.k.present() && layer.inner.k.granularity == Granularity::per_head;
    if (per_head && !whole_keys) layer.inner.rope_key = norm;
  }
}

void check_latent_norms(const NormConfig& config, const NormPlan& plan, Problems& problems) {
  for (std::size_t l = 0; l < plan.layers.size(); ++l) {
    const std::string text = objection(plan.layers[l].inner);
    if (text.empty()) continue;
    const char* key = config.layers.empty() ? "norm.preset" : "norm.layers";
    problems.push_back({key, 0, cat("with latent attention (layer ", l, "): ", text)});
    return;
  }
}

}  // namespace norma
