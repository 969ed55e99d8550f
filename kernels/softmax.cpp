// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax.h"

#include "kernels/backend.h"
#include "kernels/math.h"

namespace lockstep {
namespace {

struct CrossEntropyRow {
  float* loss;
  float* probabilities;
  const float* logits;
  const int32_t* labels;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = logits + row * classes;
    float* p = probabilities + row * classes;
    // Subtracting the peak keeps exp() finite for any input.
    const float peak = team.max(classes, [=](int64_t c) { return x[c]; });
    const float total = team.sum(classes, [=](int64_t c) { return exp_f32(x[c] - peak); });
    team.each(classes, [=](int64_t c) { p[c] = exp_f32(x[c] - peak) / total; });
    // log p would lose digits, and is -infinity once p underflows.
    float* y = loss + row;
    const float value = log_f32(total) + peak - x[labels[row]];
    team.each(1, [=](int64_t) { y[0] = value; });
  }
};

struct CrossEntropyGradRow {
  float* d_logits;
  const float* d_loss;
  const float* probabilities;
  const int32_t* labels;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    float* dx = d_logits + row * classes;
    const float* p = probabilities + row * classes;
    const float dy = d_loss[row];
    const int64_t label = labels[row];
    team.each(classes, [=](int64_t c) { dx[c] = (p[c] - (c == label ? 1.0f : 0.0f)) * dy; });
  }
};

struct CorrectRow {
  float* correct;
  const float* logits;
  const int32_t* labels;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = logits + row * classes;
    const int64_t label = labels[row];
    // The first of the highest scores is the answer. Every comparison fails with a NaN: then there is none.
    const float beaten =
        team.max(classes, [=](int64_t c) { return (c < label ? x[c] < x[label] : x[c] <= x[label]) ? 0.0f : 1.0f; });
    float* y = correct + row;
    team.each(1, [=](int64_t) { y[0] = beaten == 0 ? 1.0f : 0.0f; });
  }
};

void check_rows(const ConstView& logits, const ConstView& labels) {
  check(logits.shape.rank() == 2 && labels.shape == Shape{logits.shape[0]}, ErrorCode::plan, [&] {
    return str("softmax_cross_entropy: expected logits [rows, classes] and labels [rows], got ",
               to_string(logits.shape), " and ", to_string(labels.shape));
  });
}

}  // namespace

void run(Backend, Stream& stream, const SoftmaxCrossEntropy& k) {
  check_rows(k.logits, k.labels);
  const int64_t rows = k.logits.shape[0], classes = k.logits.shape[1];
  backend::rowwise(stream, rows, classes,
                   CrossEntropyRow{data<float>(k.loss), data<float>(k.probabilities), data<float>(k.logits),
                                   data<int32_t>(k.labels), classes});
}

void run(Backend, Stream& stream, const SoftmaxCrossEntropyGrad& k) {
  const int64_t rows = k.probabilities.shape[0], classes = k.probabilities.shape[1];
  backend::rowwise(stream, rows, classes,
                   CrossEntropyGradRow{data<float>(k.d_logits), data<float>(k.d_loss), data<float>(k.probabilities),
                                       data<int32_t>(k.labels), classes});
}

void run(Backend, Stream& stream, const CountCorrect& k) {
  check_rows(k.logits, k.labels);
  const int64_t rows = k.logits.shape[0], classes = k.logits.shape[1];
  backend::rowwise(stream, rows, classes,
                   CorrectRow{data<float>(k.correct), data<float>(k.logits), data<int32_t>(k.labels), classes});
}

}  // namespace lockstep
