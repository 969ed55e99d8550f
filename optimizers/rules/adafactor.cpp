// SPDX-License-Identifier: Apache-2.0
#include "optimizers/rules/adafactor.h"

#include <limits>

#include "kernels/backend.h"

namespace lockstep {
namespace {

using Constants = RuleConstants<Adafactor>;

constexpr float kSmallest = std::numeric_limits<float>::min();

// Scratch holds the sums of chunks, the length of the step, and the mean of r of every matrix.
TensorSums sums_of(const PreparedUpdate<Adafactor>& step) {
  return {reinterpret_cast<double*>(step.scratch), step.param.size()};
}
double* length_of(const PreparedUpdate<Adafactor>& step) {
  return reinterpret_cast<double*>(step.scratch + tensor_sums_bytes(step.param.size()));
}
float* means_of(const PreparedUpdate<Adafactor>& step) {
  return reinterpret_cast<float*>(step.scratch + tensor_sums_bytes(step.param.size()) + kScratchAlignment);
}

struct GradientElement {
  TensorGradient<Adafactor> ready;

  struct Loaded {
    TensorGradient<Adafactor>::Loaded gradient;
    bool skip;
    HOST_DEVICE void operator()(float& param, float& grad) const { grad = skip ? 0 : gradient(param, grad); }
  };
  HOST_DEVICE Loaded load() const { return {ready.load(), ready.decision->skip}; }
};

// Updates r of one row, which is the mean over its columns.
struct RowsRow {
  const Constants* constants;
  const StepScalars* decision;
  FactoredShape shape;
  const float* grad;
  float* accumulator;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t row) const {
    if (decision->skip) return;
    const auto& rule = constants->rule;
    const float* g = grad + row * shape.columns;
    const double sum =
        team.template sum<double>(shape.columns, [g, rule](int64_t c) { return double(g[c] * g[c] + rule.epsilon_1); });
    const int64_t matrix = row / shape.rows;
    float* r = accumulator + matrix * shape.rows * shape.columns + row % shape.rows;
    team.once([=, mean = float(sum / double(shape.columns))] { *r += (mean - *r) * rule.fresh; });
  }
};

// Updates c of one matrix, the mean over its rows.
struct SquareAt {
  const Constants* constants;
  const float* grad;
  int64_t columns;
  HOST_DEVICE float operator()(int64_t r, int64_t c) const {
    const float g = grad[r * columns + c];
    return g * g + constants->rule.epsilon_1;
  }
};
struct StoreColumn {
  const Constants* constants;
  const StepScalars* decision;
  float* factors;
  int64_t rows;
  HOST_DEVICE void operator()(int64_t c, float sum) const {
    if (!decision->skip) factors[c] += (sum / float(rows) - factors[c]) * constants->rule.fresh;
  }
};

struct MeansRow {
  const StepScalars* decision;
  FactoredShape shape;
  const float* accumulator;
  float* means;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t matrix) const {
    if (decision->skip) return;
    const float* r = accumulator + matrix * shape.rows * shape.columns;
    const double sum = team.template sum<double>(shape.rows, [r](int64_t i) { return double(r[i]); });
    team.once([=, this, mean = float(sum / double(shape.rows))] { means[matrix] = mean; });
  }
};

struct DirectionElement {
  const Constants* constants;
  const StepScalars* decision;
  FactoredShape shape;
  const float* means;
  float *grad, *accumulator;

  HOST_DEVICE float second_moment(int64_t i, float g) const {
    if (!shape.factored) {
      float& v = accumulator[i];
      v += (g * g + constants->rule.epsilon_1 - v) * constants->rule.fresh;
      return v;
    }
    const int64_t elements = shape.rows * shape.columns, matrix = i / elements, at = i % elements;
    const float* factors = accumulator + matrix * elements;
    // This keeps v from vanishing: a zero gradient in a row and a column of zeros would be 0 / 0, as it is in Keras.
    const float v = factors[at / shape.columns] / means[matrix] * factors[shape.rows + at % shape.columns];
    return v < kSmallest ? kSmallest : v;
  }

  HOST_DEVICE void operator()(int64_t i) const {
    if (!decision->skip) grad[i] = grad[i] / std::sqrt(second_moment(i, grad[i]));
  }
};

// Rows are chunks of the parameter and of the direction in turn, because two sums in one row take more registers than
// there are.
struct SquaresRow {
  const StepScalars* decision;
  const float *param, *direction;
  TensorSums sums;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t row) const {
    if (decision->skip) return;
    const int64_t chunk = row / 2;
    const float* x = (row % 2 == 0 ? param : direction) + sums.begin(chunk);
    const double sum =
        team.template sum<double>(sums.size(chunk), [x](int64_t i) { return double(x[i]) * double(x[i]); });
    team.once([this, row, sum] { sums.sums[row] = sum; });
  }
};

struct LengthRow {
  const Constants* constants;
  const StepScalars* decision;
  TensorSums sums;
  double* length;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t) const {
    if (decision->skip) return;
    const auto n = double(sums.elements);
    const double param = std::sqrt(sums.total(team, 0) / n), direction = std::sqrt(sums.total(team, 1) / n);
    team.once([this, param, direction] {
      const auto& rule = constants->rule;
      const double alpha = (param > rule.epsilon_2 ? param : rule.epsilon_2) * rule.rho;
      const double excess = direction / rule.clip_threshold;
      *length = excess > 1 ? alpha / excess : alpha;
    });
  }
};

struct ApplyElement {
  const StepScalars* decision;
  const double* length;

  HOST_DEVICE void operator()(float& param, float& grad) const {
    if (decision->skip) return;
    param -= float(*length) * grad;
    grad = 0;
  }
};

}  // namespace

void run(Backend, Stream& stream, const AdafactorGradient& k) {
  backend::elementwise(stream, k.step.param.size(), GradientElement{TensorGradient(k.step)},
                       inout(data<float>(k.step.param)), inout(data<float>(k.step.grad)));
}

void run(Backend, Stream& stream, const AdafactorRows& k) {
  const FactoredShape shape = factored_shape(k.step.param.shape);
  backend::rowwise(stream, shape.matrices * shape.rows, shape.columns,
                   RowsRow{k.step.constants, k.step.decision, shape, data<float>(ConstView(k.step.grad)),
                           data<float>(k.step.slots[0])});
}

int64_t scratch_bytes(Backend, Stream&, const AdafactorColumns& k) {
  const FactoredShape shape = factored_shape(k.step.param.shape);
  return backend::reduce_scratch(shape.rows, shape.columns);
}

void run(Backend, Stream& stream, const AdafactorColumns& k, std::byte* scratch) {
  const FactoredShape shape = factored_shape(k.step.param.shape);
  const int64_t first = k.matrix * shape.rows * shape.columns;
  backend::reduce(
      stream, shape.rows, shape.columns,
      SquareAt{k.step.constants, data<float>(ConstView(k.step.grad)) + first, shape.columns},
      StoreColumn{k.step.constants, k.step.decision, data<float>(k.step.slots[0]) + first + shape.rows, shape.rows},
      scratch);
}

void run(Backend, Stream& stream, const AdafactorMeans& k) {
  const FactoredShape shape = factored_shape(k.step.param.shape);
  backend::rowwise(stream, shape.matrices, shape.rows,
                   MeansRow{k.step.decision, shape, data<float>(ConstView(k.step.slots[0])), means_of(k.step)});
}

void run(Backend, Stream& stream, const AdafactorDirection& k) {
  const PreparedUpdate<Adafactor>& s = k.step;
  backend::gather(stream, s.param.size(),
                  DirectionElement{s.constants, s.decision, factored_shape(s.param.shape), means_of(s),
                                   data<float>(s.grad), data<float>(s.slots[0])});
}

void run(Backend, Stream& stream, const AdafactorSquares& k) {
  const PreparedUpdate<Adafactor>& s = k.step;
  const TensorSums sums = sums_of(s);
  backend::rowwise(stream, 2 * sums.chunks(), kSquareChunk,
                   SquaresRow{s.decision, data<float>(ConstView(s.param)), data<float>(ConstView(s.grad)), sums});
}

void run(Backend, Stream& stream, const AdafactorLength& k) {
  backend::rowwise(stream, 1, kSquareChunk,
                   LengthRow{k.step.constants, k.step.decision, sums_of(k.step), length_of(k.step)});
}

void run(Backend, Stream& stream, const AdafactorApply& k) {
  backend::elementwise(stream, k.step.param.size(), ApplyElement{k.step.decision, length_of(k.step)},
                       inout(data<float>(k.step.param)), inout(data<float>(k.step.grad)));
}

}  // namespace lockstep
