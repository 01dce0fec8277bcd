// The learning rate as a pure function of the position in the run, as in OLMo's optim.py: the position includes the
// step's own batch, so the first step uses lr(1), and without warmup_min_lr the warm-up starts at a tenth of the rate.
#pragma once

#include <cstdint>

#include "norma/config/config.h"

namespace norma {

// Steps and tokens of a run including the current step, and those at its end.
struct SchedulePosition {
  std::int64_t step = 0, tokens = 0;
  std::int64_t last_step = 0, last_tokens = 0;
};

double learning_rate(const ScheduleConfig& schedule, double peak, const SchedulePosition& position);

}  // namespace norma
