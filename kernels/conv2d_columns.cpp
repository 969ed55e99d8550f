// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d_columns.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct PatchRow {
  float* columns;
  const float* in;
  Conv2dSizes s;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t pixel) const {
    const int64_t x = pixel % s.out_width, y = pixel / s.out_width % s.out_height, image = pixel / s.pixels();
    const int64_t left = x * s.stride - s.padding, run = s.kernel_width * s.channels;
    const bool inside = left >= 0 && left + s.kernel_width <= s.width;
    for (int64_t i = 0; i < s.kernel_height; ++i) {
      const int64_t row = y * s.stride + i - s.padding;
      float* to = columns + pixel * s.patch() + i * run;
      const float* from = in + ((image * s.height + row) * s.width + left) * s.channels;
      if (row < 0 || row >= s.height) {
        team.each(run, [=](int64_t k) { to[k] = 0; });
      } else if (inside) {
        team.each(run, [=](int64_t k) { to[k] = from[k]; });
      } else {
        const int64_t first = -left * s.channels, end = (s.width - left) * s.channels;
        team.each(run, [=](int64_t k) { to[k] = k >= first && k < end ? from[k] : 0; });
      }
    }
  }
};

// Sums, for one input pixel, over the output pixels whose patch covers it.
struct PixelSum {
  float* d_in;
  const float* columns;
  Conv2dSizes s;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t pixel) const {
    const int64_t column = pixel % s.width, row = pixel / s.width % s.height, image = pixel / (s.width * s.height);
    const int64_t channels = s.channels;
    float* sum = d_in + pixel * channels;
    team.each(channels, [=](int64_t c) { sum[c] = 0; });
    for (int64_t i = 0; i < s.kernel_height; ++i) {
      const int64_t top = row + s.padding - i;
      if (top < 0 || top % s.stride != 0 || top / s.stride >= s.out_height) continue;
      for (int64_t j = 0; j < s.kernel_width; ++j) {
        const int64_t left = column + s.padding - j;
        if (left < 0 || left % s.stride != 0 || left / s.stride >= s.out_width) continue;
        const int64_t patch = (image * s.out_height + top / s.stride) * s.out_width + left / s.stride;
        const float* term = columns + patch * s.patch() + (i * s.kernel_width + j) * channels;
        team.each(channels, [=](int64_t c) { sum[c] += term[c]; });
      }
    }
  }
};

struct CopyRow {
  float* out;
  const float* row;
  int64_t columns;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t r) const {
    float* to = out + r * columns;
    const float* from = row;
    team.each(columns, [=](int64_t c) { to[c] = from[c]; });
  }
};

}  // namespace

void run(Backend, Stream& stream, const PatchesToColumns& op) {
  const Conv2dSizes& s = op.sizes;
  backend::rowwise(stream, s.batch * s.pixels(), s.patch(), PatchRow{op.columns, op.in, s});
}

void run(Backend, Stream& stream, const ColumnsToPatches& op) {
  const Conv2dSizes& s = op.sizes;
  backend::rowwise(stream, s.batch * s.height * s.width, s.channels, PixelSum{op.d_in, op.columns, s});
}

void run(Backend, Stream& stream, const RepeatRow& op) {
  backend::rowwise(stream, op.rows, op.columns, CopyRow{op.out, op.row, op.columns});
}

}  // namespace lockstep
