#include "latent.h"

#include "norma/base/text.h"

namespace norma {
namespace {

constexpr double kLatentEps = 1e-6;  // DeepSeek's code gives its latent norms no other, whatever rms_norm_eps is

// QK-Norm on a normed input: lengths of keys cannot drift with the stream, so both parts are normed as one.
bool norms_whole_keys(const LayerPolicy& layer) {
  return layer.attention.in.present() && !layer.inner.v.present() && !layer.inner.context.present();
}

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
               "and a mean is none; allowed: rms, none");
  }
  return "";
}

}  // namespace

void place_latent_norms(const NormSite& norm, const ModelConfig& model, NormPlan& plan) {
  const NormSite latent{NormKind::rms, kLatentEps, 1.0};
  for (LayerPolicy& layer : plan.layers) {
    if (model.attention.q_rank) layer.inner.q_latent = latent;
    layer.inner.kv_latent = latent;
    const bool per_head = layer.inner.k.present() && layer.inner.k.granularity == Granularity::per_head;
    if (per_head && !norms_whole_keys(layer)) layer.inner.rope_key = norm;
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
