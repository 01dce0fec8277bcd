// Reads and writes norm_plan, the section of config.json in which our own class keeps its placement.
#include <concepts>

#include "hf_sections.h"

namespace norma {
namespace {

// The members of a site or a wiring, by type.

void read_members(const JsonObject& fields, NormSite& site) {
  site.kind = read_enum<NormKind>(fields, "kind");
  site.eps = fields.number("eps");
  site.gain_init = fields.number("gain_init");
}

void read_members(const JsonObject& fields, HeadSite& site) {
  read_members(fields, static_cast<NormSite&>(site));
  site.granularity = read_enum<Granularity>(fields, "granularity");
}

template <std::derived_from<NormSite> Site>
void read_value(const JsonObject& parent, const char* key, Site& site) {
  if (const auto fields = parent.find_object(key)) read_members(*fields, site);
}

void read_value(const JsonObject& parent, const char* key, SkipSource& skip) {
  skip = read_enum<SkipSource>(parent, key);
}

void read_value(const JsonObject& parent, const char* key, double& number) {
  number = parent.number(key);
}

// A visitor that reads what it visits.
auto reader_of(const JsonObject& fields) {
  return [&fields](const auto& info, auto& value) { read_value(fields, info.name, value); };
}

void read_wiring(const JsonObject& fields, ResidualWiring& wiring) {
  visit_wiring_sites(reader_of(fields), wiring);
  visit_wiring_settings(reader_of(fields), wiring);
}

LayerPolicy read_layer(const JsonObject& fields) {
  LayerPolicy layer;
  read_wiring(fields.object("attention"), layer.attention);
  read_wiring(fields.object("mlp"), layer.mlp);
  visit_inner_sites(reader_of(fields.object("inner")), layer.inner);
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

NormPlan read_norm_plan(const JsonObject& fields, std::int64_t num_layers) {
  NormPlan plan;
  visit_outer_sites(reader_of(fields), plan);
  plan.scaled_ffn = read_enum<DeepnormFfn>(fields, "scaled_ffn");
  const std::size_t count = fields.list("layers").size();
  if (count != static_cast<std::size_t>(num_layers)) {
    fields.fail_at("layers", "must have num_hidden_layers = ", num_layers, " entries; got ", count);
  }
  for (const JsonObject& layer : fields.objects("layers")) plan.layers.push_back(read_layer(layer));
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
