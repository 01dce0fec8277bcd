// The plan as a table for people. Its columns are called as the keys of norm.layers.
#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/norm/plan.h"

namespace norma {
namespace {

using Row = std::vector<std::string>;

std::string cell(const NormSite& site) {
  if (!site.present()) return "-";
  std::string text(enum_name(site.kind));
  if (site.gain_init != 1.0) text += cat("(gain ", shortest(site.gain_init), ")");
  return text;
}

std::string cell(SkipSource skip) {
  return std::string(enum_name(skip));
}

std::string cell(double factor) {
  return factor == 1.0 ? "1" : fixed(factor, 4);
}

template <class F>
void visit_wiring(F&& f, const ResidualWiring& wiring) {
  visit_wiring_sites(f, wiring);
  visit_wiring_settings(f, wiring);
}

Row header() {
  Row row = {"layers", "branch"};
  visit_wiring([&](const auto& info, const auto&) { row.push_back(info.name); }, {});
  row.push_back("inner norms");
  return row;
}

Row wiring_row(const std::string& layers, const std::string& branch, const ResidualWiring& wiring,
               const std::string& inner) {
  Row row = {layers, branch};
  visit_wiring([&](const auto&, const auto& value) { row.push_back(cell(value)); }, wiring);
  row.push_back(inner);
  return row;
}

const char* span_of(const NormSite&) {
  return "";
}

const char* span_of(const HeadSite& site) {
  return site.granularity == Granularity::whole ? ":whole" : "";
}

std::string inner_text(const InnerNorms& inner) {
  std::vector<std::string> parts;
  const auto add = [&](const SiteInfo& info, const auto& site) {
    if (site.present()) parts.push_back(cat(info.name, span_of(site), site.kind == NormKind::layer ? ":layer" : ""));
  };
  visit_inner_sites(add, inner);
  return parts.empty() ? "-" : join(parts, " ");
}

}  // namespace

std::string to_table(const NormPlan& plan) {
  std::vector<Row> rows = {header()};
  for (std::size_t first = 0, last = 0; first < plan.layers.size(); first = last) {
    while (last < plan.layers.size() && plan.layers[last] == plan.layers[first]) ++last;
    const std::string layers = last - first == 1 ? cat(first) : cat(first, "-", last - 1);
    const LayerPolicy& layer = plan.layers[first];
    rows.push_back(wiring_row(layers, "attention", layer.attention, inner_text(layer.inner)));
    rows.push_back(wiring_row("", "mlp", layer.mlp, ""));
  }
  std::string text =
      "u = in_gain * in(x)   y = out(F(u))   x' = sum(alpha * skip + beta * y)\n" + aligned(rows, rows[0].size());
  text += cat("embedding norm: ", cell(plan.embedding), "   final norm: ", cell(plan.final), "\n");
  for (const std::string& note : plan.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace norma
