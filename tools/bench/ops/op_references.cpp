// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/ops/op_references.h"

#include <algorithm>
#include <cmath>

#include "kernels/philox.h"

namespace lockstep::reference {

DoubleTensor map(const DoubleTensor& x, const std::function<double(double)>& f) {
  DoubleTensor y = x;
  for (double& value : y.values) value = f(value);
  return y;
}

DoubleTensor map(const DoubleTensor& a, const DoubleTensor& b, const std::function<double(double, double)>& f) {
  DoubleTensor y = a;
  for (size_t i = 0; i < y.values.size(); ++i) y.values[i] = f(a.values[i], b.values[i]);
  return y;
}

double relu(double x) { return x > 0 ? x : 0; }
double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

DoubleTensor matmul(const DoubleTensor& a, const DoubleTensor& b) {
  const int64_t m = a.shape[0], k = a.shape[1], n = b.shape[1];
  DoubleTensor y{{m, n}, std::vector<double>(size_t(m * n))};
  for (int64_t i = 0; i < m; ++i)
    for (int64_t l = 0; l < k; ++l)
      for (int64_t j = 0; j < n; ++j)
        y.values[size_t(i * n + j)] += a.values[size_t(i * k + l)] * b.values[size_t(l * n + j)];
  return y;
}

DoubleTensor linear(const Inputs& x) {
  DoubleTensor y = matmul(x[0], x[1]);
  for (size_t i = 0; i < y.values.size(); ++i) y.values[i] += x[2].values[i % x[2].values.size()];
  return y;
}

DoubleTensor layer_norm(const Inputs& x) {
  DoubleTensor y = x[0];
  const size_t columns = x[1].values.size();
  for (size_t begin = 0; begin < y.values.size(); begin += columns) {
    double mean = 0, variance = 0;
    for (size_t c = 0; c < columns; ++c) mean += x[0].values[begin + c] / double(columns);
    for (size_t c = 0; c < columns; ++c) variance += std::pow(x[0].values[begin + c] - mean, 2) / double(columns);
    for (size_t c = 0; c < columns; ++c)
      y.values[begin + c] =
          (x[0].values[begin + c] - mean) / std::sqrt(variance + 1e-5) * x[1].values[c] + x[2].values[c];
  }
  return y;
}

DoubleTensor softmax_cross_entropy(const Inputs& x) {
  const size_t rows = size_t(x[0].shape[0]), classes = size_t(x[0].shape[1]);
  DoubleTensor y{{int64_t(rows)}, std::vector<double>(rows)};
  for (size_t r = 0; r < rows; ++r) {
    double total = 0;
    for (size_t c = 0; c < classes; ++c) total += std::exp(x[0].values[r * classes + c]);
    y.values[r] = std::log(total) - x[0].values[r * classes + size_t(x[1].values[r])];
  }
  return y;
}

DoubleTensor mean(const DoubleTensor& x) {
  double total = 0;
  for (const double value : x.values) total += value;
  return {{}, {total / double(x.values.size())}};
}

DoubleTensor conv2d(const Inputs& x, int stride, int padding) {
  const Shape &in = x[0].shape, &w = x[1].shape;
  const int64_t out_h = (in[1] + 2 * padding - w[0]) / stride + 1, out_w = (in[2] + 2 * padding - w[1]) / stride + 1;
  DoubleTensor y{{in[0], out_h, out_w, w[3]}, {}};
  for (int64_t n = 0; n < in[0]; ++n)
    for (int64_t oy = 0; oy < out_h; ++oy)
      for (int64_t ox = 0; ox < out_w; ++ox)
        for (int64_t o = 0; o < w[3]; ++o) {
          double sum = x[2].values[size_t(o)];
          for (int64_t i = 0; i < w[0]; ++i)
            for (int64_t j = 0; j < w[1]; ++j) {
              const int64_t iy = oy * stride + i - padding, ix = ox * stride + j - padding;
              if (iy < 0 || iy >= in[1] || ix < 0 || ix >= in[2]) continue;
              for (int64_t c = 0; c < in[3]; ++c)
                sum += x[0].values[size_t(((n * in[1] + iy) * in[2] + ix) * in[3] + c)] *
                       x[1].values[size_t(((i * w[1] + j) * w[2] + c) * w[3] + o)];
            }
          y.values.push_back(sum);
        }
  return y;
}

DoubleTensor max_pool2d(const DoubleTensor& x, int window, int stride) {
  const Shape& in = x.shape;
  const int64_t out_h = (in[1] - window) / stride + 1, out_w = (in[2] - window) / stride + 1;
  DoubleTensor y{{in[0], out_h, out_w, in[3]}, {}};
  for (int64_t n = 0; n < in[0]; ++n)
    for (int64_t oy = 0; oy < out_h; ++oy)
      for (int64_t ox = 0; ox < out_w; ++ox)
        for (int64_t c = 0; c < in[3]; ++c) {
          double peak = -INFINITY;
          for (int64_t i = 0; i < window; ++i)
            for (int64_t j = 0; j < window; ++j)
              peak = std::max(peak,
                              x.values[size_t(((n * in[1] + oy * stride + i) * in[2] + ox * stride + j) * in[3] + c)]);
          y.values.push_back(peak);
        }
  return y;
}

DoubleTensor dropout(const DoubleTensor& x, double rate, uint64_t seed, int64_t step) {
  DoubleTensor y = x;
  const Philox4 mixed = philox4x32(seed, uint64_t(step), 0);
  const uint64_t key = (uint64_t(mixed.v[0]) << 32) | mixed.v[1];
  const int64_t columns = int64_t(x.values.size()) / x.shape[0];
  for (int64_t i = 0; i < int64_t(y.values.size()); ++i) {
    const Philox4 draw = philox4x32(key, uint64_t(i / columns), uint64_t(i % columns / 4));
    const bool dropped = double(draw.v[i % columns % 4]) < std::floor(double(float(rate)) * 4294967296.0);
    y.values[size_t(i)] *= dropped ? 0 : 1 / (1 - rate);
  }
  return y;
}

}  // namespace lockstep::reference
