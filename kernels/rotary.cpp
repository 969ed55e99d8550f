// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotary.h"

#include "kernels/backend.h"
#include "kernels/math.h"

namespace lockstep {
namespace {

struct Turn {
  float cosine, sine;
};

// Cosine and sine of an angle of at least 0, over + - * in double: own functions, so that every backend has the same
// bits. The angle is brought to [-pi/4, pi/4], where the series of Taylor are exact to a rounding of float.
HOST_DEVICE inline Turn turn_by(double angle) {
  constexpr double kHigh = 1.5707963267341256, kLow = 6.077100506506192e-11;  // pi / 2, in two parts
  const double quarters = double(int64_t(angle * 0.63661977236758138 + 0.5));
  const double r = (angle - quarters * kHigh) - quarters * kLow, z = r * r;
  double c = 0, s = 0;
  for (int n = 14; n > 0; n -= 2) {
    c = (1 - c) * z / double(n * (n - 1));
    s = (1 - s) * z / double(n * (n + 1));
  }
  const float cosine = float(1 - c), sine = float(r * (1 - s));
  switch (int64_t(quarters) % 4) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

// Rates and angles are rounded to float at the places where Hugging Face's Llama rounds them.
struct TurnAt {
  Turn* turns;
  int64_t pairs, first_position;
  float theta;
  HOST_DEVICE void operator()(int64_t i) const {
    const int64_t position = first_position + i / pairs, pair = i % pairs;
    const float exponent = float(2 * pair) / float(2 * pairs);
    const float rate = 1.0f / float(1.0 / falling_power(double(theta), -double(exponent)));
    turns[i] = turn_by(double(rate * float(position)));
  }
};

template <class T>
struct RotateRow {
  T* out;
  const T* in;
  const Turn* turns;
  int64_t width, length, head_size;
  bool neighbours;
  float direction;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const int64_t half = head_size / 2;
    const Turn* turn = turns + row % length * half;
    const float sign = direction;
    const int64_t step = neighbours ? 2 : 1, apart = neighbours ? 1 : half;
    for (int64_t head = row * width; head < (row + 1) * width; head += head_size) {
      const T* x = in + head;
      T* y = out + head;
      team.each(half, [=](int64_t i) {
        const float a = float(x[i * step]), b = float(x[i * step + apart]);
        const float c = turn[i].cosine, s = sign * turn[i].sine;
        y[i * step] = T(a * c - b * s);
        y[i * step + apart] = T(b * c + a * s);
      });
    }
  }
};

}  // namespace

int64_t scratch_bytes(Backend, Stream&, const Rotate& k) {
  return k.geometry.length * (k.geometry.head_size / 2) * int64_t(sizeof(Turn));
}

void run(Backend, Stream& stream, const Rotate& k, std::byte* scratch) {
  const RotaryGeometry& g = k.geometry;
  const int64_t rows = k.in.shape[0], width = k.in.shape[1], pairs = g.head_size / 2;
  auto* turns = reinterpret_cast<Turn*>(scratch);
  backend::gather(stream, g.length * pairs, TurnAt{turns, pairs, g.first_position, g.theta});
  dispatch_activation(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::rowwise(stream, rows, width,
                     RotateRow<T>{data<T>(k.out), data<T>(k.in), turns, width, g.length, g.head_size,
                                  g.pairs == RotaryPairs::neighbours, k.inverse ? -1.0f : 1.0f});
  });
}

}  // namespace lockstep
