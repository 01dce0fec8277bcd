// The plan as a table for people.
#include "norma/base/text.h"

#include <array>

#include "norma/config/names.h"
#include "norma/norm/plan.h"

namespace norma {
namespace {

using Row = std::vector<std::string>;

std::string site_text(const NormSite& site) {
  if (!site.present()) return "-";
  std::string text(enum_name(site.kind));
  if (site.gain_init != 1.0) text += cat("(gain ", shortest(site.gain_init), ")");
  return text;
}

std::string inner_text(const InnerNorms& inner) {
  const std::array<std::pair<const char*, const InnerSite*>, 4> sites = {
      {{"q", &inner.q}, {"k", &inner.k}, {"v", &inner.v}, {"context", &inner.context}}};
  std::vector<std::string> parts;
  for (const auto& [name, site] : sites) {
    if (!site->present()) continue;
    const char* span = site->granularity == Granularity::per_head ? "" : ":whole";
    parts.push_back(cat(name, span, site->kind == NormKind::layer ? ":layer" : ""));
  }
  const std::array<std::pair<const char*, const NormSite*>, 3> latent = {
      {{"rope_key", &inner.rope_key}, {"q_latent", &inner.q_latent}, {"kv_latent", &inner.kv_latent}}};
  for (const auto& [name, site] : latent) {
    if (site->present()) parts.push_back(cat(name, site->kind == NormKind::layer ? ":layer" : ""));
  }
  return parts.empty() ? "-" : join(parts, " ");
}

std::string factor(double value) {
  return value == 1.0 ? "1" : fixed(value, 4);
}

Row wiring_row(const std::string& layers, const std::string& branch, const ResidualWiring& w,
               const std::string& inner) {
  return {layers,
          branch,
          site_text(w.in),
          site_text(w.out),
          site_text(w.sum),
          std::string(enum_name(w.skip)),
          factor(w.in_gain),
          factor(w.alpha),
          factor(w.beta),
          factor(w.branch_init_scale),
          inner};
}

}  // namespace

std::string to_table(const NormPlan& plan) {
  std::vector<Row> rows = {
      {"layers", "branch", "in", "out", "sum", "skip", "g", "alpha", "beta", "init", "inner norms"}};
  for (std::size_t first = 0, last = 0; first < plan.layers.size(); first = last) {
    while (last < plan.layers.size() && plan.layers[last] == plan.layers[first]) ++last;
    const std::string layers = last - first == 1 ? cat(first) : cat(first, "-", last - 1);
    const LayerPolicy& layer = plan.layers[first];
    rows.push_back(wiring_row(layers, "attention", layer.attention, inner_text(layer.inner)));
    rows.push_back(wiring_row("", "mlp", layer.mlp, ""));
  }
  std::string text =
      "u = g * in(x)   y = out(F(u))   x' = sum(alpha * skip + beta * y)\n" + aligned(rows, rows[0].size());
  text += cat("embedding norm: ", site_text(plan.embedding), "   final norm: ", site_text(plan.final), "\n");
  for (const std::string& note : plan.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace norma
