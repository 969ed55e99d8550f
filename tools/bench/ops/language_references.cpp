// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/ops/language_references.h"

#include <cmath>

#include "kernels/philox.h"

namespace lockstep::reference {
namespace {

// Columns [first, first + count) of a matrix.
DoubleTensor columns(const DoubleTensor& x, int64_t first, int64_t count) {
  DoubleTensor y{{x.shape[0], count}, {}};
  for (int64_t r = 0; r < x.shape[0]; ++r)
    for (int64_t c = first; c < first + count; ++c) y.values.push_back(x.values[size_t(r * x.shape[1] + c)]);
  return y;
}

double log_of_sum(const double* x, int64_t n) {
  double total = 0;
  for (int64_t c = 0; c < n; ++c) total += std::exp(x[c]);
  return std::log(total);
}

}  // namespace

DoubleTensor embedding(const Inputs& x) {
  const int64_t length = x[0].shape[1], width = x[1].shape[1];
  DoubleTensor y{{x[0].shape.size(), width}, {}};
  for (int64_t r = 0; r < x[0].shape.size(); ++r)
    for (int64_t c = 0; c < width; ++c)
      y.values.push_back(x[1].values[size_t(int64_t(x[0].values[size_t(r)]) * width + c)] +
                         (x.size() > 2 ? x[2].values[size_t(r % length * width + c)] : 0));
  return y;
}

DoubleTensor rms_norm(const Inputs& x) {
  DoubleTensor y = x[0];
  const size_t columns = x[1].values.size();
  for (size_t begin = 0; begin < y.values.size(); begin += columns) {
    double square = 0;
    for (size_t c = 0; c < columns; ++c) square += std::pow(x[0].values[begin + c], 2) / double(columns);
    for (size_t c = 0; c < columns; ++c) y.values[begin + c] *= x[1].values[c] / std::sqrt(square + 1e-5);
  }
  return y;
}

DoubleTensor rotary(const DoubleTensor& x, const RotaryGeometry& g) {
  DoubleTensor y = x;
  const int64_t half = g.head_size / 2;
  for (int64_t r = 0; r < x.shape[0]; ++r)
    for (int64_t head = 0; head < x.shape[1]; head += g.head_size)
      for (int64_t i = 0; i < half; ++i) {
        const double angle = double(r % g.length) * std::pow(double(g.theta), -2.0 * double(i) / double(g.head_size));
        const int64_t start = r * x.shape[1] + head;
        const bool halves = g.pairs == RotaryPairs::halves;
        const auto a = size_t(start + (halves ? i : 2 * i)), b = size_t(start + (halves ? i + half : 2 * i + 1));
        y.values[a] = x.values[a] * std::cos(angle) - x.values[b] * std::sin(angle);
        y.values[b] = x.values[b] * std::cos(angle) + x.values[a] * std::sin(angle);
      }
  return y;
}

DoubleTensor swiglu(const Inputs& x) {
  return map(x[0], x[1], [](double gate, double up) { return gate / (1 + std::exp(-gate)) * up; });
}

DoubleTensor causal_attention(const Inputs& x, const AttentionHeads& h, const Draw& draw) {
  if (x.size() == 1) {
    const int64_t size = x[0].shape[1] / (h.heads + 2 * h.kv_heads);
    return causal_attention({columns(x[0], 0, h.heads * size), columns(x[0], h.heads * size, h.kv_heads * size),
                             columns(x[0], (h.heads + h.kv_heads) * size, h.kv_heads * size)},
                            h, draw);
  }
  const int64_t width = x[0].shape[1], size = width / h.heads, kv_width = size * h.kv_heads;
  DoubleTensor y{x[0].shape, std::vector<double>(x[0].values.size())};
  for (int64_t row = 0; row < x[0].shape[0]; ++row)
    for (int64_t head = 0; head < h.heads; ++head) {
      const int64_t query = row % h.length, kv = head / (h.heads / h.kv_heads) * size;
      std::vector<double> scores;
      for (int64_t key = 0; key <= query; ++key) {
        double score = 0;
        for (int64_t d = 0; d < size; ++d)
          score += x[0].values[size_t(row * width + head * size + d)] *
                   x[1].values[size_t((row - query + key) * kv_width + kv + d)];
        scores.push_back(score / std::sqrt(double(size)));
      }
      const double total = log_of_sum(scores.data(), int64_t(scores.size()));
      for (int64_t key = 0; key <= query; ++key) {
        const double weight = std::exp(scores[size_t(key)] - total) * draw(row / h.length, head, query, key);
        for (int64_t d = 0; d < size; ++d)
          y.values[size_t(row * width + head * size + d)] +=
              weight * x[2].values[size_t((row - query + key) * kv_width + kv + d)];
      }
    }
  return y;
}

Draw attention_dropout(uint64_t key, double rate) {
  return [=](int64_t sample, int64_t head, int64_t query, int64_t position) {
    const Philox4 mixed = philox4x32(key, uint64_t(sample), uint64_t(head));
    const uint64_t of_head = (uint64_t(mixed.v[0]) << 32) | mixed.v[1];
    const Philox4 draws = philox4x32(of_head, uint64_t(query), uint64_t(position / 4));
    return double(draws.v[position % 4]) < std::floor(double(float(rate)) * 4294967296.0) ? 0 : 1 / (1 - rate);
  };
}

DoubleTensor token_loss(const Inputs& x) {
  const DoubleTensor logits = matmul(x[0], transposed(x[1]));
  DoubleTensor y{{x[0].shape[0]}, {}};
  const int64_t classes = x[1].shape[0];
  for (int64_t r = 0; r < x[0].shape[0]; ++r) {
    const double* row = logits.values.data() + r * classes;
    const auto target = int64_t(x[2].values[size_t(r)]);
    y.values.push_back(target < 0 ? 0 : log_of_sum(row, classes) - row[target]);
  }
  return y;
}

DoubleTensor log_softmax(const DoubleTensor& logits) {
  DoubleTensor y = logits;
  const int64_t classes = logits.shape[1];
  for (int64_t r = 0; r < logits.shape[0]; ++r) {
    const double total = log_of_sum(logits.values.data() + r * classes, classes);
    for (int64_t c = 0; c < classes; ++c) y.values[size_t(r * classes + c)] -= total;
  }
  return y;
}

DoubleTensor sample_means(const DoubleTensor& x, int64_t samples) {
  const size_t each = x.values.size() / size_t(samples);
  DoubleTensor y{{samples}, std::vector<double>(size_t(samples))};
  for (size_t i = 0; i < x.values.size(); ++i) y.values[i / each] += x.values[i] / double(each);
  return y;
}

DoubleTensor transposed(const DoubleTensor& x) {
  DoubleTensor y{{x.shape[1], x.shape[0]}, {}};
  for (int64_t c = 0; c < x.shape[1]; ++c)
    for (int64_t r = 0; r < x.shape[0]; ++r) y.values.push_back(x.values[size_t(r * x.shape[1] + c)]);
  return y;
}

}  // namespace lockstep::reference
