// SPDX-License-Identifier: Apache-2.0
#include "optimizers/rules/lamb.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

// Scratch holds the sums of chunks, then the ratio.
TensorSums sums_of(const PreparedUpdate<Lamb>& step) {
  return {reinterpret_cast<double*>(step.scratch), step.param.size()};
}
float* ratio_of(const PreparedUpdate<Lamb>& step) {
  return reinterpret_cast<float*>(step.scratch + tensor_sums_bytes(step.param.size()));
}

struct MomentsRow {
  TensorGradient<Lamb> ready;
  float *param, *grad, *momentum, *velocity;
  TensorSums sums;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t chunk) const {
    const int64_t begin = sums.begin(chunk), n = sums.size(chunk);
    const auto rule = ready.constants->rule;
    if (ready.decision->skip) return team.each(n, [this, begin](int64_t i) { grad[begin + i] = 0; });
    const auto gradient = ready.load();
    team.each(n, [this, begin, gradient, rule](int64_t i) {
      float& w = param[begin + i];
      rule.moments(gradient(w, grad[begin + i]), momentum[begin + i], velocity[begin + i]);
      grad[begin + i] = 0;
    });
    const double of_param = team.template sum<double>(
        n, [this, begin](int64_t i) { return double(param[begin + i]) * double(param[begin + i]); });
    const double of_direction = team.template sum<double>(n, [this, begin, rule](int64_t i) {
      const double u = double(rule.direction(momentum[begin + i], velocity[begin + i]));
      return u * u;
    });
    team.once([this, chunk, of_param, of_direction] {
      sums.sums[2 * chunk] = of_param;
      sums.sums[2 * chunk + 1] = of_direction;
    });
  }
};

struct RatioRow {
  const StepScalars* decision;
  TensorSums sums;
  float* ratio;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t) const {
    if (decision->skip) return;
    const double param = std::sqrt(sums.total(team, 0)), direction = std::sqrt(sums.total(team, 1));
    team.once([this, param, direction] { *ratio = param > 0 && direction > 0 ? float(param / direction) : 1.0f; });
  }
};

struct ApplyElement {
  const RuleConstants<Lamb>* constants;
  const StepScalars* decision;
  const float* ratio;

  HOST_DEVICE void operator()(float& param, float momentum, float velocity) const {
    if (decision->skip) return;
    const auto& rule = constants->rule;
    param -= *ratio * rule.rate * rule.direction(momentum, velocity);
  }
};

}  // namespace

void run(Backend, Stream& stream, const LambMoments& k) {
  const PreparedUpdate<Lamb>& s = k.step;
  const TensorSums sums = sums_of(s);
  backend::rowwise(stream, sums.chunks(), kSquareChunk,
                   MomentsRow{TensorGradient(s), data<float>(s.param), data<float>(s.grad), data<float>(s.slots[0]),
                              data<float>(s.slots[1]), sums});
}

void run(Backend, Stream& stream, const LambRatio& k) {
  backend::rowwise(stream, 1, kSquareChunk, RatioRow{k.step.decision, sums_of(k.step), ratio_of(k.step)});
}

void run(Backend, Stream& stream, const LambApply& k) {
  const PreparedUpdate<Lamb>& s = k.step;
  backend::elementwise(stream, s.param.size(), ApplyElement{s.constants, s.decision, ratio_of(s)},
                       inout(data<float>(s.param)), in(data<float>(ConstView(s.slots[0]))),
                       in(data<float>(ConstView(s.slots[1]))));
}

}  // namespace lockstep
