// SPDX-License-Identifier: Apache-2.0
#include "optimizers/rules/muon.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

constexpr double kNormEpsilon = 1e-7;

struct MomentumRow {
  MuonMomentum k;
  float *param, *grad, *momentum, *x;

  HOST_DEVICE float orthogonal_to_be(float g, float m) const {
    if (!k.nesterov) return m;
    return k.torch ? g + (m - g) * k.mu : g + k.mu * m;
  }

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t chunk) const {
    const int64_t begin = k.sums.begin(chunk), n = k.sums.size(chunk);
    if (k.step.decision->skip) return team.each(n, [this, begin](int64_t i) { grad[begin + i] = x[begin + i] = 0; });
    const auto gradient = TensorGradient(k.step).load();
    team.each(n, [this, begin, gradient](int64_t i) {
      const float g = gradient(param[begin + i], grad[begin + i]);
      float& m = momentum[begin + i];
      m = k.torch ? m + (g - m) * k.fresh : k.mu * m + g;
      x[begin + i] = orthogonal_to_be(g, m);
      grad[begin + i] = 0;
    });
    const double squares =
        team.template sum<double>(n, [this, begin](int64_t i) { return double(x[begin + i]) * double(x[begin + i]); });
    team.once([this, chunk, squares] { k.sums.sums[2 * chunk] = squares; });
  }
};

struct NormRow {
  MuonNorm k;
  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t) const {
    if (k.decision->skip) return team.once([this] { *k.one_over_norm = 0; });
    const double norm = std::sqrt(k.sums.total(team, 0));
    team.once([this, norm] { *k.one_over_norm = float(1 / (norm + kNormEpsilon)); });
  }
};

struct ScaleElement {
  const float* factor;
  HOST_DEVICE void operator()(float& x) const { x *= *factor; }
};

struct CombineElement {
  float a, b;
  HOST_DEVICE void operator()(float& out, float x) const { out = a * x; }
  HOST_DEVICE void operator()(float& out, float x, float y) const { out = a * x + b * y; }
};

struct ApplyElement {
  const RuleConstants<Muon>* constants;
  const StepScalars* decision;
  float length;
  HOST_DEVICE void operator()(float& param, float x) const {
    if (!decision->skip) param -= constants->rule.rate * length * x;
  }
};

}  // namespace

void run(Backend, Stream& stream, const MuonMomentum& k) {
  backend::rowwise(stream, k.sums.chunks(), kSquareChunk,
                   MomentumRow{k, data<float>(k.step.param), data<float>(k.step.grad), data<float>(k.step.slots[0]),
                               data<float>(k.x)});
}

void run(Backend, Stream& stream, const MuonNorm& k) { backend::rowwise(stream, 1, kSquareChunk, NormRow{k}); }

void run(Backend, Stream& stream, const MuonScale& k) {
  backend::elementwise(stream, k.x.size(), ScaleElement{k.one_over_norm}, inout(data<float>(k.x)));
}

void run(Backend, Stream& stream, const MuonCombine& k) {
  if (k.y.data == nullptr)
    backend::elementwise(stream, k.out.size(), CombineElement{k.a, k.b}, out(data<float>(k.out)), in(data<float>(k.x)));
  else
    backend::elementwise(stream, k.out.size(), CombineElement{k.a, k.b}, out(data<float>(k.out)), in(data<float>(k.x)),
                         in(data<float>(k.y)));
}

void run(Backend, Stream& stream, const MuonApply& k) {
  backend::elementwise(stream, k.x.size(), ApplyElement{k.step.constants, k.step.decision, k.length},
                       inout(data<float>(k.step.param)), in(data<float>(k.x)));
}

}  // namespace lockstep
