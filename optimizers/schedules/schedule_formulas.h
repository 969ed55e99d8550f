// SPDX-License-Identifier: Apache-2.0
// Learning-rate formulas. All are evaluated in double from the whole counter; what can be counted (restarts, stairs,
// borders) is counted in integers, so that nothing moves at large counters. length(): the steps until a schedule is
// through, or through its first period; 0 where it has neither.
#pragma once

#include <cstdint>
#include <vector>

namespace lockstep {

struct ConstantRate {
  double learning_rate;
  double at(int64_t counter) const;
  int64_t length() const { return 0; }
};

// a r^(s / steps); in stairs: the exponent rounded down
struct ExponentialDecay {
  double learning_rate;
  int64_t steps;
  double decay_rate;
  bool staircase;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// values[i] for the first boundaries[i] that is not below the counter, else the last value
struct PiecewiseConstant {
  std::vector<double> boundaries, values;
  double at(int64_t counter) const;
  int64_t length() const { return boundaries.empty() ? 0 : int64_t(boundaries.back()); }
};

// (a - end) (1 - s / steps)^power + end; cycling: steps times the number of cycles begun
struct PolynomialDecay {
  double learning_rate;
  int64_t steps;
  double end, power;
  bool cycle;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// a / (1 + r s / steps); in stairs: the quotient rounded down
struct InverseTimeDecay {
  double learning_rate;
  int64_t steps;
  double decay_rate;
  bool staircase;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// Linearly from start to peak in warmup_steps, then in decay_steps along half a cosine to alpha times the peak
struct CosineDecay {
  double start, peak;
  int64_t warmup_steps, decay_steps;
  double alpha;
  double at(int64_t counter) const;
  int64_t length() const { return warmup_steps + decay_steps; }
};

// Half cosines from a m_mul^i to alpha a; period i is t_mul^i as long as the first
struct CosineRestarts {
  double learning_rate;
  int64_t first_steps;
  double t_mul, m_mul, alpha;
  double at(int64_t counter) const;
  int64_t length() const { return first_steps; }
};

// Linearly from start to a, then constant
struct LinearWarmup {
  double learning_rate;
  int64_t steps;
  double start;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// Linearly from start to a, constant, then (a - end) (1 - s / decay_steps)^power + end
struct WarmupStableDecay {
  double learning_rate;
  int64_t warmup_steps, stable_steps, decay_steps;
  double start, end, power;
  double at(int64_t counter) const;
  int64_t length() const { return warmup_steps + stable_steps + decay_steps; }
};

// PyTorch's: half cosines up from a / div_factor to a at counter pct_start * steps - 1, and down to
// a / div_factor / final_div_factor at counter steps - 1
struct OneCycle {
  double learning_rate;
  int64_t steps;
  double pct_start, div_factor, final_div_factor;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

}  // namespace lockstep
