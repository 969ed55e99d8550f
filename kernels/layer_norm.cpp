// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm.h"

#include <cmath>

#include "kernels/added_row.h"
#include "kernels/backend.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

// T is the dtype of activations; means, gains and sums are f32.
template <class T>
struct NormalizeRow {
  T* out;
  float *mean, *rstd;
  const T* in;
  const float *gain, *shift;
  int64_t columns;
  float epsilon;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const T* x = in + row * columns;
    T* y = out + row * columns;
    const float m = team.sum(columns, [=](int64_t c) { return float(x[c]); }) / float(columns);
    // Two passes are needed: the sum of squares minus the squared mean cancels for large means.
    const float variance =
        team.sum(columns, [=](int64_t c) { return (float(x[c]) - m) * (float(x[c]) - m); }) / float(columns);
    const float r = 1 / std::sqrt(variance + epsilon);
    const float *g = gain, *s = shift;
    team.each(columns, [=](int64_t c) { y[c] = T((float(x[c]) - m) * r * g[c] + s[c]); });
    float *row_mean = mean + row, *row_rstd = rstd + row;
    team.each(1, [=](int64_t) {
      row_mean[0] = m;
      row_rstd[0] = r;
    });
  }
};

template <class T>
struct GradInputRow {
  T* d_in;
  const T *d_out, *in;
  const float *gain, *mean, *rstd;
  int64_t columns;
  bool accumulate;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const T* x = in + row * columns;
    const T* dy = d_out + row * columns;
    const float* g = gain;
    T* dx = d_in + row * columns;
    const float m = mean[row], r = rstd[row];
    const float mean_g = team.sum(columns, [=](int64_t c) { return float(dy[c]) * g[c]; }) / float(columns);
    const float mean_gx =
        team.sum(columns, [=](int64_t c) { return float(dy[c]) * g[c] * ((float(x[c]) - m) * r); }) / float(columns);
    const auto gradient = [=](int64_t c) {
      return r * (float(dy[c]) * g[c] - mean_g - (float(x[c]) - m) * r * mean_gx);
    };
    if (accumulate)
      team.each(columns, [=](int64_t c) { dx[c] = T(float(dx[c]) + float(T(gradient(c)))); });
    else
      team.each(columns, [=](int64_t c) { dx[c] = T(gradient(c)); });
  }
};

template <class T>
struct GainTerm {
  const T *d_out, *in;
  const float *mean, *rstd;
  int64_t columns;
  HOST_DEVICE float operator()(int64_t r, int64_t c) const {
    return float(d_out[r * columns + c]) * ((float(in[r * columns + c]) - mean[r]) * rstd[r]);
  }
};

struct StoreGain {
  float* d_gain;
  HOST_DEVICE void operator()(int64_t c, float total) const { d_gain[c] = total; }
};

template <class T>
NormalizeRow<T> row_of(const LayerNorm& k) {
  return {data<T>(k.out),      data<float>(k.mean),  data<float>(k.rstd), data<T>(k.in),
          data<float>(k.gain), data<float>(k.shift), k.gain.size(),       k.epsilon};
}

int64_t checked_rows(const LayerNorm& k) {
  const int64_t columns = k.gain.size(), rows = columns > 0 ? k.in.size() / columns : 0;
  check(rows * columns == k.in.size() && k.shift.size() == columns && k.mean.size() == rows, ErrorCode::internal, [&] {
    return str("layer_norm: gain ", to_string(k.gain.shape), " and shift ", to_string(k.shift.shape),
               " do not fit rows of ", to_string(k.in.shape));
  });
  return rows;
}

}  // namespace

void run(Backend, Stream& stream, const LayerNorm& k) {
  const int64_t rows = checked_rows(k);
  dispatch_activation(k.in.dtype,
                      [&]<class T>(TypeTag<T>) { backend::rowwise(stream, rows, k.gain.size(), row_of<T>(k)); });
}

void run(Backend, Stream& stream, const AddLayerNorm& k) {
  const int64_t rows = checked_rows(k.norm), columns = k.norm.gain.size();
  check_same_size("add and layer norm", k.sum, k.a, k.b, k.norm.out);
  dispatch_activation(k.sum.dtype, [&]<class T>(TypeTag<T>) {
    backend::rowwise(
        stream, rows, columns,
        AddedRow<T, NormalizeRow<T>>{data<T>(k.sum), data<T>(k.a), data<T>(k.b), columns, row_of<T>(k.norm)});
  });
}

void run(Backend, Stream& stream, const LayerNormGradInput& k) {
  const int64_t columns = k.gain.size(), rows = k.mean.size();
  dispatch_activation(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::rowwise(stream, rows, columns,
                     GradInputRow<T>{data<T>(k.d_in), data<T>(k.d_out), data<T>(k.in), data<float>(k.gain),
                                     data<float>(k.mean), data<float>(k.rstd), columns, k.accumulate});
  });
}

int64_t scratch_bytes(Backend, Stream&, const LayerNormGradGain& k) {
  return backend::reduce_scratch(k.mean.size(), k.d_gain.size());
}

void run(Backend, Stream& stream, const LayerNormGradGain& k, std::byte* scratch) {
  const int64_t columns = k.d_gain.size(), rows = k.mean.size();
  dispatch_activation(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::reduce(stream, rows, columns,
                    GainTerm<T>{data<T>(k.d_out), data<T>(k.in), data<float>(k.mean), data<float>(k.rstd), columns},
                    StoreGain{data<float>(k.d_gain)}, scratch);
  });
}

}  // namespace lockstep
