// SPDX-License-Identifier: Apache-2.0
#include "optimizers/schedules/schedule_formulas.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lockstep {

namespace {

// The result is exact at both ends: 1 at progress 0, 0 at progress 1.
double half_cosine(double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); }

double linear(double from, double to, double progress) { return from + (to - from) * progress; }

double stairs_or_slope(int64_t counter, int64_t steps, bool staircase) {
  return staircase ? double(counter / steps) : double(counter) / double(steps);
}

}  // namespace

double ConstantRate::at(int64_t /*counter*/) const { return learning_rate; }

double ExponentialDecay::at(int64_t counter) const {
  return learning_rate * std::pow(decay_rate, stairs_or_slope(counter, steps, staircase));
}

double PiecewiseConstant::at(int64_t counter) const {
  size_t i = 0;
  while (i < boundaries.size() && double(counter) > boundaries[i]) ++i;
  return values[i];
}

double PolynomialDecay::at(int64_t counter) const {
  const int64_t begun = counter / steps + (counter % steps != 0), cycles = cycle ? std::max<int64_t>(1, begun) : 1;
  const double length = double(steps) * double(cycles);
  return (learning_rate - end) * std::pow(1 - std::min(double(counter), length) / length, power) + end;
}

double InverseTimeDecay::at(int64_t counter) const {
  return learning_rate / (1 + decay_rate * stairs_or_slope(counter, steps, staircase));
}

double CosineDecay::at(int64_t counter) const {
  if (counter < warmup_steps) return linear(start, peak, double(counter) / double(warmup_steps));
  const double progress = double(std::min(counter - warmup_steps, decay_steps)) / double(decay_steps);
  return peak * ((1 - alpha) * half_cosine(progress) + alpha);
}

double CosineRestarts::at(int64_t counter) const {
  // A logarithm would give the period, but misplace counters at the restarts. Lengths that are whole stay exact.
  double period = 0, begin = 0, length = double(first_steps);
  if (t_mul == 1) {
    period = double(counter / first_steps);
    begin = double(counter - counter % first_steps);
  } else {
    for (; double(counter) >= begin + length; ++period) {
      begin += length;
      length *= t_mul;
    }
  }
  const double progress = (double(counter) - begin) / length;
  return learning_rate * ((1 - alpha) * std::pow(m_mul, period) * half_cosine(progress) + alpha);
}

double LinearWarmup::at(int64_t counter) const {
  if (counter >= steps) return learning_rate;
  return linear(start, learning_rate, double(counter) / double(steps));
}

double WarmupStableDecay::at(int64_t counter) const {
  if (counter < warmup_steps) return linear(start, learning_rate, double(counter) / double(warmup_steps));
  if (counter < warmup_steps + stable_steps) return learning_rate;
  const int64_t decayed = std::min(counter - warmup_steps - stable_steps, decay_steps);
  return (learning_rate - end) * std::pow(1 - double(decayed) / double(decay_steps), power) + end;
}

double OneCycle::at(int64_t counter) const {
  const double start = learning_rate / div_factor, end = start / final_div_factor;
  const double last = double(steps - 1), peak = std::max(0.0, pct_start * double(steps) - 1);
  const double s = std::min(double(counter), last);
  if (peak > 0 && s <= peak) return linear(learning_rate, start, half_cosine(s / peak));
  return linear(end, learning_rate, half_cosine(peak < last ? (s - peak) / (last - peak) : 1));
}

}  // namespace lockstep
