// SPDX-License-Identifier: Apache-2.0
#include "kernels/token_loss.h"

#include "kernels/backend.h"
#include "kernels/math.h"

namespace lockstep {
namespace {

// log sum of exp(x). Subtracting the peak keeps exp() finite for any input.
template <class Team>
HOST_DEVICE float log_sum_of(const Team& team, const float* x, int64_t classes) {
  const float peak = team.max(classes, [=](int64_t c) { return x[c]; });
  return log_f32(team.sum(classes, [=](int64_t c) { return exp_f32(x[c] - peak); })) + peak;
}

struct LossRow {
  float *loss, *log_sum;
  const float* logits;
  const int32_t* targets;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = logits + row * classes;
    const int64_t target = targets[row];
    const float total = target < 0 ? 0 : log_sum_of(team, x, classes);
    float *y = loss + row, *kept = log_sum + row;
    team.each(1, [=](int64_t) {
      y[0] = target < 0 ? 0 : total - x[target];
      kept[0] = total;
    });
  }
};

struct LossGradRow {
  float* logits;
  const float *log_sum, *d_loss;
  const int32_t* targets;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    float* x = logits + row * classes;
    const int64_t target = targets[row];
    if (target < 0) return team.each(classes, [=](int64_t c) { x[c] = 0; });
    const float total = log_sum[row], dy = d_loss[row];
    team.each(classes, [=](int64_t c) { x[c] = (exp_f32(x[c] - total) - (c == target ? 1.0f : 0.0f)) * dy; });
  }
};

struct LogSoftmaxRow {
  float* out;
  const float* logits;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = logits + row * classes;
    float* y = out + row * classes;
    const float total = log_sum_of(team, x, classes);
    team.each(classes, [=](int64_t c) { y[c] = x[c] - total; });
  }
};

struct LogSoftmaxGradRow {
  float* d_in;
  const float *d_out, *out;
  int64_t classes;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* dy = d_out + row * classes;
    const float* y = out + row * classes;
    float* dx = d_in + row * classes;
    const float total = team.sum(classes, [=](int64_t c) { return dy[c]; });
    team.each(classes, [=](int64_t c) { dx[c] = dy[c] - exp_f32(y[c]) * total; });
  }
};

struct SumOfRow {
  float* out;
  const float* in;
  int64_t columns;
  float scale;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = in + row * columns;
    const float total = team.sum(columns, [=](int64_t c) { return x[c]; }) * scale;
    float* y = out + row;
    team.each(1, [=](int64_t) { y[0] = total; });
  }
};

struct SpreadAt {
  float* out;
  const float* in;
  int64_t columns;
  float scale;
  HOST_DEVICE void operator()(int64_t i) const { out[i] = in[i / columns] * scale; }
};

struct CountOfRow {
  float* out;
  const int32_t* targets;
  int64_t columns;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const int32_t* x = targets + row * columns;
    const float total = team.sum(columns, [=](int64_t c) { return x[c] >= 0 ? 1.0f : 0.0f; });
    float* y = out + row;
    team.each(1, [=](int64_t) { y[0] = total; });
  }
};

int64_t columns_of(int64_t elements, int64_t rows) { return rows > 0 ? elements / rows : 0; }

}  // namespace

void run(Backend, Stream& stream, const TokenLoss& k) {
  const int64_t rows = k.logits.shape[0], classes = k.logits.shape[1];
  check(k.loss.size() == rows && k.log_sum.size() == rows && k.targets.size() == rows, ErrorCode::internal, [&] {
    return str("token loss: expected ", rows, " losses and targets, got ", k.loss.size(), " and ", k.targets.size());
  });
  backend::rowwise(
      stream, rows, classes,
      LossRow{data<float>(k.loss), data<float>(k.log_sum), data<float>(k.logits), data<int32_t>(k.targets), classes});
}

void run(Backend, Stream& stream, const TokenLossGrad& k) {
  const int64_t rows = k.logits.shape[0], classes = k.logits.shape[1];
  backend::rowwise(stream, rows, classes,
                   LossGradRow{data<float>(k.logits), data<float>(k.log_sum), data<float>(k.d_loss),
                               data<int32_t>(k.targets), classes});
}

void run(Backend, Stream& stream, const LogSoftmax& k) {
  const int64_t rows = k.logits.shape[0], classes = k.logits.shape[1];
  backend::rowwise(stream, rows, classes, LogSoftmaxRow{data<float>(k.out), data<float>(k.logits), classes});
}

void run(Backend, Stream& stream, const LogSoftmaxGrad& k) {
  const int64_t rows = k.out.shape[0], classes = k.out.shape[1];
  backend::rowwise(stream, rows, classes,
                   LogSoftmaxGradRow{data<float>(k.d_in), data<float>(k.d_out), data<float>(k.out), classes});
}

void run(Backend, Stream& stream, const RowSum& k) {
  const int64_t rows = k.out.size(), columns = columns_of(k.in.size(), rows);
  backend::rowwise(stream, rows, columns, SumOfRow{data<float>(k.out), data<float>(k.in), columns, k.scale});
}

void run(Backend, Stream& stream, const SpreadRows& k) {
  const int64_t columns = columns_of(k.out.size(), k.in.size());
  backend::gather(stream, k.out.size(), SpreadAt{data<float>(k.out), data<float>(k.in), columns, k.scale});
}

void run(Backend, Stream& stream, const CountUnmasked& k) {
  const int64_t rows = k.out.size(), columns = columns_of(k.targets.size(), rows);
  backend::rowwise(stream, rows, columns, CountOfRow{data<float>(k.out), data<int32_t>(k.targets), columns});
}

}  // namespace lockstep
