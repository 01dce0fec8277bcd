// What a step reports about its experts.
#pragma once

#include "norma/record/metrics.h"
#include "norma/train/train_step.h"

namespace norma {

// The two auxiliary losses and, for every layer with experts, its loads and its router's entropy. Adds nothing for a
// model without experts.
void add_routing_metrics(const StepFigures& figures, Metrics& metrics);

}  // namespace norma
