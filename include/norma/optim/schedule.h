// The learning rate as a pure function of position. OLMo's optim.py: the position counts the step's own
// batch, so the first step already uses lr(1), and a null warmup_min_lr means a tenth of the rate.
#pragma once

#include <cstdint>

#include "norma/config/config.h"

namespace norma {

// Where a run stands once the current step's batch is counted, and where it ends.
struct SchedulePosition {
  std::int64_t step = 0, tokens = 0;
  std::int64_t last_step = 0, last_tokens = 0;
};

double learning_rate(const ScheduleConfig& schedule, double peak, const SchedulePosition& position);

}  // namespace norma
