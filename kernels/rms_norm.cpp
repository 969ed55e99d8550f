// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm.h"

#include <cmath>

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct ScaleRow {
  float *out, *rstd;
  const float *in, *gain;
  int64_t columns;
  float epsilon;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = in + row * columns;
    float* y = out + row * columns;
    const float square = team.sum(columns, [=](int64_t c) { return x[c] * x[c]; }) / float(columns);
    const float r = 1 / std::sqrt(square + epsilon);
    const float* g = gain;
    team.each(columns, [=](int64_t c) { y[c] = x[c] * r * g[c]; });
    float* row_rstd = rstd + row;
    team.each(1, [=](int64_t) { row_rstd[0] = r; });
  }
};

struct GradInputRow {
  float* d_in;
  const float *d_out, *in, *gain, *rstd;
  int64_t columns;
  bool accumulate;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = in + row * columns;
    const float* dy = d_out + row * columns;
    const float* g = gain;
    float* dx = d_in + row * columns;
    const float r = rstd[row];
    const float mean = team.sum(columns, [=](int64_t c) { return dy[c] * g[c] * (x[c] * r); }) / float(columns);
    if (accumulate)
      team.each(columns, [=](int64_t c) { dx[c] += r * (dy[c] * g[c] - x[c] * r * mean); });
    else
      team.each(columns, [=](int64_t c) { dx[c] = r * (dy[c] * g[c] - x[c] * r * mean); });
  }
};

struct GainTerm {
  const float *d_out, *in, *rstd;
  int64_t columns;
  HOST_DEVICE float operator()(int64_t r, int64_t c) const {
    return d_out[r * columns + c] * (in[r * columns + c] * rstd[r]);
  }
};

struct StoreGain {
  float* d_gain;
  HOST_DEVICE void operator()(int64_t c, float total) const { d_gain[c] = total; }
};

}  // namespace

void run(Backend, Stream& stream, const RmsNorm& k) {
  const int64_t columns = k.gain.size(), rows = columns > 0 ? k.in.size() / columns : 0;
  check(rows * columns == k.in.size() && k.rstd.size() == rows, ErrorCode::internal, [&] {
    return str("rms_norm: gain ", to_string(k.gain.shape), " does not fit rows of ", to_string(k.in.shape));
  });
  backend::rowwise(
      stream, rows, columns,
      ScaleRow{data<float>(k.out), data<float>(k.rstd), data<float>(k.in), data<float>(k.gain), columns, k.epsilon});
}

void run(Backend, Stream& stream, const RmsNormGradInput& k) {
  const int64_t columns = k.gain.size(), rows = k.rstd.size();
  backend::rowwise(stream, rows, columns,
                   GradInputRow{data<float>(k.d_in), data<float>(k.d_out), data<float>(k.in), data<float>(k.gain),
                                data<float>(k.rstd), columns, k.accumulate});
}

int64_t scratch_bytes(Backend, Stream&, const RmsNormGradGain& k) {
  return backend::reduce_scratch(k.rstd.size(), k.d_gain.size());
}

void run(Backend, Stream& stream, const RmsNormGradGain& k, std::byte* scratch) {
  const int64_t columns = k.d_gain.size(), rows = k.rstd.size();
  backend::reduce(stream, rows, columns,
                  GainTerm{data<float>(k.d_out), data<float>(k.in), data<float>(k.rstd), columns},
                  StoreGain{data<float>(k.d_gain)}, scratch);
}

}  // namespace lockstep
