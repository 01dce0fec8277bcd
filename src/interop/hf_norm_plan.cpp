// Reads and writes norm_plan, the section of config.json in which our own class keeps its placement.
#include <concepts>

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

// The members of a site or a wiring, by type.

void read_members(const HfFields& fields, NormSite& site) {
  site.kind = need_enum<NormKind>(fields, "kind");
  site.eps = fields.need_number("eps");
  site.gain_init = fields.need_number("gain_init");
}

void read_members(const HfFields& fields, HeadSite& site) {
  read_members(fields, static_cast<NormSite&>(site));
  site.granularity = need_enum<Granularity>(fields, "granularity");
}

template <std::derived_from<NormSite> Site>
void read_value(const HfFields& parent, const char* key, Site& site) {
  if (const auto fields = parent.section(key)) read_members(*fields, site);
}

void read_value(const HfFields& parent, const char* key, SkipSource& skip) {
  skip = need_enum<SkipSource>(parent, key);
}

void read_value(const HfFields& parent, const char* key, double& number) {
  number = parent.need_number(key);
}

// A visitor that reads what it visits.
auto reader_of(const HfFields& fields) {
  return [&fields](const auto& info, auto& value) { read_value(fields, info.name, value); };
}

HfFields need_section(const HfFields& parent, const char* key) {
  return parent.required(key, parent.section(key));
}

void read_wiring(const HfFields& fields, ResidualWiring& wiring) {
  visit_wiring_sites(reader_of(fields), wiring);
  visit_wiring_settings(reader_of(fields), wiring);
}

LayerPolicy read_layer(const HfFields& fields) {
  LayerPolicy layer;
  read_wiring(need_section(fields, "attention"), layer.attention);
  read_wiring(need_section(fields, "mlp"), layer.mlp);
  visit_inner_sites(reader_of(need_section(fields, "inner")), layer.inner);
  return layer;
}

Json json_of(const NormSite& site) {
  if (!site.present()) return nullptr;
  return {{"kind", enum_name(site.kind)}, {"eps", site.eps}, {"gain_init", site.gain_init}};
}

Json json_of(const HeadSite& site) {
  Json json = json_of(static_cast<const NormSite&>(site));
  if (site.present()) json["granularity"] = enum_name(site.granularity);
  return json;
}

Json json_of(SkipSource skip) {
  return enum_name(skip);
}

Json json_of(double number) {
  return number;
}

// A visitor that adds what it visits to `json`.
auto writer_to(Json& json) {
  return [&json](const auto& info, const auto& value) { json[info.name] = json_of(value); };
}

Json json_of(const ResidualWiring& wiring) {
  Json json;
  visit_wiring_sites(writer_to(json), wiring);
  visit_wiring_settings(writer_to(json), wiring);
  return json;
}

Json json_of(const LayerPolicy& layer) {
  Json inner;
  visit_inner_sites(writer_to(inner), layer.inner);
  return {{"attention", json_of(layer.attention)}, {"mlp", json_of(layer.mlp)}, {"inner", std::move(inner)}};
}

}  // namespace

NormPlan read_norm_plan(const HfFields& fields, std::int64_t num_layers) {
  NormPlan plan;
  visit_outer_sites(reader_of(fields), plan);
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
  for (const LayerPolicy& layer : plan.layers) layers.push_back(json_of(layer));
  Json json;
  visit_outer_sites(writer_to(json), plan);
  json["scaled_ffn"] = enum_name(plan.scaled_ffn);
  json["layers"] = std::move(layers);
  return json;
}

}  // namespace norma
