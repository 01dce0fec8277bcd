// Shape and norm plan as a parity or training fixture states them, layer by layer.
#pragma once

#include "norma/base/json.h"
#include "norma/config/config.h"
#include "norma/norm/plan.h"

namespace norma::testing {

ModelConfig fixture_config(const Json& fixture);
NormPlan fixture_plan(const Json& fixture);

}  // namespace norma::testing
