// A norm plan as the section norm_plan of our own class.
#include <array>

#include "norma/config/names.h"

#include "hf_sections.h"

namespace norma {
namespace {

template <class E>
E need_enum(const HfFields& fields, const char* key) {
  const std::string name = fields.required(key, fields.text(key));
  const std::optional<E> value = parse_enum<E>(name);
  if (!value) {
    fields.fail(cat(key, " '", name, "' is not known", did_you_mean(name, enum_names<E>()),
                    "; allowed: ", join(enum_names<E>(), ", ")));
  }
  return *value;
}

void read_site(const HfFields& fields, NormSite& site) {
  site.kind = need_enum<NormKind>(fields, "kind");
  site.eps = fields.need_number("eps");
  site.gain_init = fields.need_number("gain_init");
}

void read_site(const HfFields& parent, const char* key, NormSite& site) {
  if (const auto fields = parent.section(key)) read_site(*fields, site);
}

void read_inner_site(const HfFields& parent, const char* key, InnerSite& site) {
  const auto fields = parent.section(key);
  if (!fields) return;
  read_site(*fields, site);
  site.granularity = need_enum<Granularity>(*fields, "granularity");
}

HfFields need_section(const HfFields& parent, const char* key) {
  return parent.required(key, parent.section(key));
}

ResidualWiring read_wiring(const HfFields& fields) {
  ResidualWiring wiring;
  read_site(fields, "in", wiring.in);
  read_site(fields, "out", wiring.out);
  read_site(fields, "sum", wiring.sum);
  wiring.skip = need_enum<SkipSource>(fields, "skip");
  wiring.in_gain = fields.need_number("in_gain");
  wiring.alpha = fields.need_number("alpha");
  wiring.beta = fields.need_number("beta");
  wiring.branch_init_scale = fields.need_number("branch_init_scale");
  return wiring;
}

LayerPolicy read_layer(const HfFields& fields) {
  LayerPolicy layer;
  layer.attention = read_wiring(need_section(fields, "attention"));
  layer.mlp = read_wiring(need_section(fields, "mlp"));
  const HfFields inner = need_section(fields, "inner");
  read_inner_site(inner, "q", layer.inner.q);
  read_inner_site(inner, "k", layer.inner.k);
  read_inner_site(inner, "v", layer.inner.v);
  read_inner_site(inner, "context", layer.inner.context);
  read_site(inner, "q_latent", layer.inner.q_latent);
  read_site(inner, "kv_latent", layer.inner.kv_latent);
  read_site(inner, "rope_key", layer.inner.rope_key);
  return layer;
}

Json write_site(const NormSite& site) {
  if (!site.present()) return nullptr;
  return {{"kind", enum_name(site.kind)}, {"eps", site.eps}, {"gain_init", site.gain_init}};
}

Json write_inner_site(const InnerSite& site) {
  Json json = write_site(site);
  if (site.present()) json["granularity"] = enum_name(site.granularity);
  return json;
}

Json write_wiring(const ResidualWiring& wiring) {
  return {{"in", write_site(wiring.in)},   {"out", write_site(wiring.out)},
          {"sum", write_site(wiring.sum)}, {"skip", enum_name(wiring.skip)},
          {"in_gain", wiring.in_gain},     {"alpha", wiring.alpha},
          {"beta", wiring.beta},           {"branch_init_scale", wiring.branch_init_scale}};
}

Json write_layer(const LayerPolicy& layer) {
  const InnerNorms& inner = layer.inner;
  return {{"attention", write_wiring(layer.attention)},
          {"mlp", write_wiring(layer.mlp)},
          {"inner",
           {{"q", write_inner_site(inner.q)},
            {"k", write_inner_site(inner.k)},
            {"v", write_inner_site(inner.v)},
            {"context", write_inner_site(inner.context)},
            {"q_latent", write_site(inner.q_latent)},
            {"kv_latent", write_site(inner.kv_latent)},
            {"rope_key", write_site(inner.rope_key)}}}};
}

}  // namespace

NormPlan read_norm_plan(const HfFields& fields, std::int64_t num_layers) {
  NormPlan plan;
  read_site(fields, "embedding", plan.embedding);
  read_site(fields, "final", plan.final);
  plan.scaled_ffn = need_enum<DeepnormFfn>(fields, "scaled_ffn");
  if (!fields.has("layers") || !fields.at("layers").is_array()) fields.fail("needs a list layers");
  const Json& layers = fields.at("layers");
  if (layers.size() != static_cast<std::size_t>(num_layers)) {
    fields.fail(cat("layers must have num_hidden_layers = ", num_layers, " entries; got ", layers.size()));
  }
  for (std::size_t l = 0; l < layers.size(); ++l) {
    if (!layers[l].is_object()) fields.fail(cat("layers[", l, "] must be an object"));
    plan.layers.push_back(read_layer(fields.inside(layers[l], cat("layers[", l, "]"))));
  }
  return plan;
}

Json write_norm_plan(const NormPlan& plan) {
  Json layers = Json::array();
  for (const LayerPolicy& layer : plan.layers) layers.push_back(write_layer(layer));
  return {{"embedding", write_site(plan.embedding)},
          {"final", write_site(plan.final)},
          {"scaled_ffn", enum_name(plan.scaled_ffn)},
          {"layers", std::move(layers)}};
}

}  // namespace norma
