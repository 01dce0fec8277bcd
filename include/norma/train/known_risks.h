// Where a config departs from its placement's recipe in a way that is known to fail. Each line names its source; the
// recipes themselves are configs/recipes/.
#pragma once

#include <string>
#include <vector>

#include "norma/train/run_plan.h"

namespace norma {

// Sentences for people, empty when nothing speaks against the plan. Judged by where the norms sit, not by the preset's
// name.
std::vector<std::string> known_risks(const RunPlan& plan);

}  // namespace norma
