// The parameters of one unit as tensors. A module takes its matrices by their role and its norms by their site, so that
// names and shapes stand in the description (parameters.h) alone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "norma/base/unit.h"
#include "norma/model/parameters.h"

#include "norm_module.h"

namespace norma {

// The unit of a description. Its parameters have their shapes, but no memory until an engine gives them storage.
Unit make_unit(const UnitSpec& spec, int index);

class UnitTensors {
 public:
  // `spec` and `unit`, which is made from it, outlive this object.
  UnitTensors(const UnitSpec& spec, const Unit& unit) : spec_(spec), unit_(unit), taken_(spec.parameters.size()) {}

  // The unit's one parameter of this role. take() throws CheckFailure where there is none.
  at::Tensor take(ParameterRole role);
  std::optional<at::Tensor> take_if_any(ParameterRole role);
  // The norm whose gain is "<unit>.<name>.weight"; the identity where the plan has none.
  Norm norm(const std::string& name);
  LayerNorms layer_norms();

  // Throws CheckFailure naming a parameter that no module took.
  void check_all_taken() const;

 private:
  const UnitSpec& spec_;
  const Unit& unit_;
  std::vector<bool> taken_;
};

}  // namespace norma
