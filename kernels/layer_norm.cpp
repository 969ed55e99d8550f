// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm.h"

#include <cmath>

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct NormalizeRow {
  float *out, *mean, *rstd;
  const float *in, *gain, *shift;
  int64_t columns;
  float epsilon;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = in + row * columns;
    float* y = out + row * columns;
    const float m = team.sum(columns, [=](int64_t c) { return x[c]; }) / float(columns);
    // Two passes are needed: the sum of squares minus the squared mean cancels for large means.
    const float variance = team.sum(columns, [=](int64_t c) { return (x[c] - m) * (x[c] - m); }) / float(columns);
    const float r = 1 / std::sqrt(variance + epsilon);
    const float *g = gain, *s = shift;
    team.each(columns, [=](int64_t c) { y[c] = (x[c] - m) * r * g[c] + s[c]; });
    float *row_mean = mean + row, *row_rstd = rstd + row;
    team.each(1, [=](int64_t) {
      row_mean[0] = m;
      row_rstd[0] = r;
    });
  }
};

struct GradInputRow {
  float* d_in;
  const float *d_out, *in, *gain, *mean, *rstd;
  int64_t columns;
  bool accumulate;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = in + row * columns;
    const float* dy = d_out + row * columns;
    const float* g = gain;
    float* dx = d_in + row * columns;
    const float m = mean[row], r = rstd[row];
    const float mean_g = team.sum(columns, [=](int64_t c) { return dy[c] * g[c]; }) / float(columns);
    const float mean_gx =
        team.sum(columns, [=](int64_t c) { return dy[c] * g[c] * ((x[c] - m) * r); }) / float(columns);
    if (accumulate)
      team.each(columns, [=](int64_t c) { dx[c] += r * (dy[c] * g[c] - mean_g - (x[c] - m) * r * mean_gx); });
    else
      team.each(columns, [=](int64_t c) { dx[c] = r * (dy[c] * g[c] - mean_g - (x[c] - m) * r * mean_gx); });
  }
};

struct GainTerm {
  const float *d_out, *in, *mean, *rstd;
  int64_t columns;
  HOST_DEVICE float operator()(int64_t r, int64_t c) const {
    return d_out[r * columns + c] * ((in[r * columns + c] - mean[r]) * rstd[r]);
  }
};

struct StoreGain {
  float* d_gain;
  HOST_DEVICE void operator()(int64_t c, float total) const { d_gain[c] = total; }
};

}  // namespace

void run(Backend, Stream& stream, const LayerNorm& k) {
  const int64_t columns = k.gain.size(), rows = columns > 0 ? k.in.size() / columns : 0;
  check(rows * columns == k.in.size() && k.shift.size() == columns && k.mean.size() == rows, ErrorCode::internal, [&] {
    return str("layer_norm: gain ", to_string(k.gain.shape), " and shift ", to_string(k.shift.shape),
               " do not fit rows of ", to_string(k.in.shape));
  });
  backend::rowwise(stream, rows, columns,
                   NormalizeRow{data<float>(k.out), data<float>(k.mean), data<float>(k.rstd), data<float>(k.in),
                                data<float>(k.gain), data<float>(k.shift), columns, k.epsilon});
}

void run(Backend, Stream& stream, const LayerNormGradInput& k) {
  const int64_t columns = k.gain.size(), rows = k.mean.size();
  backend::rowwise(stream, rows, columns,
                   GradInputRow{data<float>(k.d_in), data<float>(k.d_out), data<float>(k.in), data<float>(k.gain),
                                data<float>(k.mean), data<float>(k.rstd), columns, k.accumulate});
}

int64_t scratch_bytes(Backend, Stream&, const LayerNormGradGain& k) {
  return backend::reduce_scratch(k.mean.size(), k.d_gain.size());
}

void run(Backend, Stream& stream, const LayerNormGradGain& k, std::byte* scratch) {
  const int64_t columns = k.d_gain.size(), rows = k.mean.size();
  backend::reduce(stream, rows, columns,
                  GainTerm{data<float>(k.d_out), data<float>(k.in), data<float>(k.mean), data<float>(k.rstd), columns},
                  StoreGain{data<float>(k.d_gain)}, scratch);
}

}  // namespace lockstep
