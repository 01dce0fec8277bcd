#include "norma/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "norma/base/error.h"

namespace norma {
namespace {

// The rate after the warm-up. c: position, w: end of the warm-up, t: end of the decay, in steps or tokens.
double decayed_rate(const ScheduleConfig& s, double peak, double c, double w, double t) {
  const double end = peak * s.alpha_f;
  switch (s.kind) {
    case ScheduleKind::constant:
      return peak;
    case ScheduleKind::inverse_sqrt:
      return peak * std::sqrt(std::max(w, 1.0) / std::max({w, c, 1.0}));
    case ScheduleKind::cosine:
      if (c >= t) return end;
      return end + (peak - end) * (1.0 + std::cos(std::numbers::pi * (c - w) / (t - w))) / 2.0;
    case ScheduleKind::linear:
      if (c >= t) return end;
      return peak - (peak - end) * (c - w) / (t - w);
    case ScheduleKind::wsd: {
      const double start = t - static_cast<double>(s.decay);
      if (c <= start) return peak;
      return c >= t ? end : peak - (peak - end) * (c - start) / (t - start);
    }
  }
  throw CheckFailure("[schedule] unknown kind");
}

}  // namespace

double learning_rate(const ScheduleConfig& s, double peak, const SchedulePosition& p) {
  const bool tokens = s.units == ScheduleUnits::tokens;
  const double c = static_cast<double>(tokens ? p.tokens : p.step);
  const double w = static_cast<double>(s.warmup);
  const double t = static_cast<double>(s.t_max.value_or(tokens ? p.last_tokens : p.last_step));
  if (c < w) {
    const double from = s.warmup_min_lr.value_or(peak * 0.1);
    return from + (peak - from) * c / w;
  }
  return decayed_rate(s, peak, c, w, t);
}

}  // namespace norma
