#include "norma/norm/plan.h"

#include "norma/base/error.h"
#include "norma/base/text.h"

namespace norma {

bool NormSite::operator==(const NormSite& other) const {
  if (!present() && !other.present()) return true;
  return kind == other.kind && eps == other.eps && gain_init == other.gain_init;
}

bool HeadSite::operator==(const HeadSite& other) const {
  return static_cast<const NormSite&>(*this) == other && (!present() || granularity == other.granularity);
}

bool NormPlan::operator==(const NormPlan& other) const {
  return embedding == other.embedding && layers == other.layers && final == other.final &&
         scaled_ffn == other.scaled_ffn;
}

// ---- Sites ----

std::string LayerSite::key() const {
  const char* const groups[] = {"attention", "mlp", "inner"};
  return cat(groups[static_cast<std::size_t>(group)], ".", name);
}

std::string LayerSite::parameter() const {
  return cat(group == SiteGroup::mlp ? "mlp" : "attention", ".norm_", name);
}

SiteShape site_shape(SiteInput input, const InnerNorms& inner, const ModelConfig& model) {
  switch (input) {
    case SiteInput::stream:
      return {1, model.d_model};
    case SiteInput::q_latent:
      return {1, model.q_rank()};
    case SiteInput::kv_latent:
      return {1, model.kv_rank()};
    case SiteInput::rope_key:
      return {1, model.rope_dim()};
    case SiteInput::q:
      return {model.num_heads, model.head_width()};
    case SiteInput::k:
      return {model.kv_heads(), model.is_latent() && !norms_whole_keys(inner) ? model.nope_dim() : model.head_width()};
    case SiteInput::v:
      return {model.kv_heads(), model.value_width()};
    case SiteInput::context:
      return {model.num_heads, model.value_width()};
  }
  throw CheckFailure("[norm] unknown input of a site");
}

std::vector<NormParameter> norm_parameters(const NormPlan& plan, const ModelConfig& model) {
  std::vector<NormParameter> all;
  const auto add = [&](const std::string& name, const NormSite& site, std::int64_t width) {
    if (site.present()) all.push_back({name + ".weight", width, site});
  };
  add("embedding.norm", plan.embedding, model.d_model);
  for (std::size_t l = 0; l < plan.layers.size(); ++l) {
    const LayerPolicy& layer = plan.layers[l];
    const auto add_site = [&](const LayerSite& where, const auto& site) {
      const SiteShape shape = site_shape(where.input, layer.inner, model);
      add(cat("blocks.", l, ".", where.parameter()), site, shape.gain_width(site));
    };
    visit_sites(add_site, layer);
  }
  add("head.norm", plan.final, model.d_model);
  return all;
}

}  // namespace norma
