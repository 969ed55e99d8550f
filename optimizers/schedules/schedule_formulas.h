// SPDX-License-Identifier: Apache-2.0
// Learning-rate formulas. All are evaluated in double from the whole counter; what can be counted (restarts, stairs,
// borders) is counted in integers, so that nothing moves at large counters. length() is the number of steps until a
// schedule is through, or through its first period; 0 if it has neither.
#pragma once

#include <cstdint>
#include <vector>

namespace lockstep {

struct ConstantRate {
  double learning_rate;
  double at(int64_t counter) const;
  int64_t length() const { return 0; }
};

// a r^(s / steps); stairs round the exponent down
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

// (a - end) (1 - s / steps)^power + end; cycling multiplies steps by the number of cycles begun
struct PolynomialDecay {
  double learning_rate;
  int64_t steps;
  double end, power;
  bool cycle;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// a / (1 + r s / steps); stairs round the quotient down
struct InverseTimeDecay {
  double learning_rate;
  int64_t steps;
  double decay_rate;
  bool staircase;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// Goes linearly from start to peak in warmup_steps, then in decay_steps along half a cosine to alpha times the peak
struct CosineDecay {
  double start, peak;
  int64_t warmup_steps, decay_steps;
  double alpha;
  double at(int64_t counter) const;
  int64_t length() const { return warmup_steps + decay_steps; }
};

// Half cosines from a m_mul^i to alpha a; period i is t_mul^i times as long as the first
struct CosineRestarts {
  double learning_rate;
  int64_t first_steps;
  double t_mul, m_mul, alpha;
  double at(int64_t counter) const;
  int64_t length() const { return first_steps; }
};

// Goes linearly from start to a, then is constant
struct LinearWarmup {
  double learning_rate;
  int64_t steps;
  double start;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

// Goes linearly from start to a, is constant, then is (a - end) (1 - s / decay_steps)^power + end
struct WarmupStableDecay {
  double learning_rate;
  int64_t warmup_steps, stable_steps, decay_steps;
  double start, end, power;
  double at(int64_t counter) const;
  int64_t length() const { return warmup_steps + stable_steps + decay_steps; }
};

// PyTorch's one cycle: half cosines go up from a / div_factor to a at counter pct_start * steps - 1, and down to
// a / div_factor / final_div_factor at counter steps - 1
struct OneCycle {
  double learning_rate;
  int64_t steps;
  double pct_start, div_factor, final_div_factor;
  double at(int64_t counter) const;
  int64_t length() const { return steps; }
};

}  // namespace lockstep
