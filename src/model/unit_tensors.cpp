#include "unit_tensors.h"

#include <ATen/ATen.h>

#include "norma/base/error.h"

namespace norma {

Unit make_unit(const UnitSpec& spec, int index) {
  Unit unit{spec, index, {}};
  for (const ParameterSpec& parameter : spec.parameters) {
    // One element that repeats: a shape without the memory.
    unit.parameters.push_back({parameter.name, at::zeros({1}).expand(parameter.shape).detach()});
  }
  return unit;
}

std::optional<at::Tensor> UnitTensors::take_if_any(ParameterRole role) {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (spec_.parameters[i].role != role) continue;
    taken_[i] = true;
    return unit_.parameters[i].tensor;
  }
  return std::nullopt;
}

at::Tensor UnitTensors::take(ParameterRole role) {
  const std::optional<at::Tensor> tensor = take_if_any(role);
  NORMA_CHECK(tensor, "[model] ", spec_.name, " has no parameter of role ", static_cast<int>(role));
  return *tensor;
}

Norm UnitTensors::norm(const std::string& name) {
  const std::string full_name = cat(spec_.name, ".", name, ".weight");
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (spec_.parameters[i].name != full_name) continue;
    taken_[i] = true;
    return {spec_.parameters[i].norm, unit_.parameters[i].tensor};
  }
  return {};
}

LayerNorms UnitTensors::layer_norms() {
  LayerNorms norms;
  visit_sites([&](const LayerSite& site, Norm& found) { found = norm(site.parameter()); }, norms);
  return norms;
}

void UnitTensors::check_all_taken() const {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    NORMA_CHECK(taken_[i], "[model] no module takes ", spec_.parameters[i].name);
  }
}

}  // namespace norma
