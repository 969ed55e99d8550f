// SPDX-License-Identifier: Apache-2.0
#include "kernels/max_pool.h"

#include <type_traits>
#include <utility>

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct PoolSizes {
  int64_t height, width, channels, out_height, out_width;
  int window, stride;
};

HOST_DEVICE inline bool is_nan(float x) { return x != x; }
HOST_DEVICE inline int32_t bits(float x) { return __builtin_bit_cast(int32_t, x); }

struct MaxOfWindow {
  float* out;
  const float* in;
  PoolSizes s;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t pixel) const {
    const int64_t row = pixel / s.out_width, x = pixel % s.out_width * s.stride;
    const int64_t image = row / s.out_height, y = row % s.out_height * s.stride;
    const float* corner = in + ((image * s.height + y) * s.width + x) * s.channels;
    float* peaks = out + pixel * s.channels;
    team.each(s.channels, [=](int64_t c) { peaks[c] = corner[c]; });
    for (int64_t i = 0; i < s.window; ++i)
      for (int64_t j = 0; j < s.window; ++j) {
        const float* values = corner + (i * s.width + j) * s.channels;
        team.each(s.channels, [=](int64_t c) {
          const float peak = peaks[c], value = values[c];
          peaks[c] = ((peak >= value) | is_nan(peak)) ? peak : value;
        });
      }
  }
};

// Collects, for one input pixel, from the windows that cover it. Common windows are a template argument, so that only
// the channels are left to loop over; 0 means that the window is known at run time only.
template <int kWindow>
struct CollectFromWindows {
  float* d_in;
  const float* d_out;
  const float* in;
  const float* out;
  PoolSizes s;

  // Rows or columns [first, last] of windows that cover `at`.
  struct Range {
    int64_t first, last;
  };
  HOST_DEVICE static Range covering(int64_t at, int window, int stride, int64_t count) {
    const int64_t first = at < window ? 0 : (at - window) / stride + 1, last = at / stride;
    return {first, last < count ? last : count - 1};
  }

  // Returns 1 when element `position` of the window does not contradict that element `own` is the first maximum. The
  // maximum was copied from there, so bits tell, also for NaN and zeros.
  HOST_DEVICE static int agrees(float value, float peak, int position, int own) {
    return position > own ? 1 : (bits(value) == bits(peak)) == (position == own);
  }

  // Adds the window's gradient to the channels in which element `own` is the first maximum.
  template <class Team, int... kPosition>
  HOST_DEVICE void add(Team team, int64_t window_pixel, const float* corner, int own, float* sum,
                       std::integer_sequence<int, kPosition...>) const {
    const int64_t right = s.channels, down = s.width * s.channels;
    const float* peaks = out + window_pixel * s.channels;
    const float* gradient = d_out + window_pixel * s.channels;
    team.each(s.channels, [=, window = s.window](int64_t c) {
      const float peak = peaks[c];
      const int size = kWindow > 0 ? kWindow : window;
      int hit = 1;
      if constexpr (kWindow > 0) {
        hit = (agrees(corner[kPosition / size * down + kPosition % size * right + c], peak, kPosition, own) & ...);
      } else {
        for (int position = 0; position <= own; ++position)
          hit &= agrees(corner[position / size * down + position % size * right + c], peak, position, own);
      }
      sum[c] += hit ? gradient[c] : 0.0f;
    });
  }

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t pixel) const {
    const int window = kWindow > 0 ? kWindow : s.window;
    const int64_t row = pixel / s.width, x = pixel % s.width;
    const int64_t image = row / s.height, y = row % s.height;
    float* sum = d_in + pixel * s.channels;
    team.each(s.channels, [=](int64_t c) { sum[c] = 0; });
    const Range rows = covering(y, window, s.stride, s.out_height);
    const Range columns = covering(x, window, s.stride, s.out_width);
    for (int64_t wy = rows.first; wy <= rows.last; ++wy)
      for (int64_t wx = columns.first; wx <= columns.last; ++wx) {
        const int own = int((y - wy * s.stride) * window + x - wx * s.stride);
        const int64_t corner = (image * s.height + wy * s.stride) * s.width + wx * s.stride;
        add(team, (image * s.out_height + wy) * s.out_width + wx, in + corner * s.channels, own, sum,
            std::make_integer_sequence<int, kWindow * kWindow>());
      }
  }
};

PoolSizes checked_sizes(std::string_view kernel, const ConstView& in, const ConstView& out, int window, int stride) {
  const auto got = [&] {
    return str(", got input ", to_string(in.shape), ", output ", to_string(out.shape), ", window ", window, ", stride ",
               stride);
  };
  for (const ConstView& view : {in, out})
    check(view.dtype == DType::f32 && view.shape.rank() == 4, ErrorCode::plan,
          [&] { return str(kernel, ": expected f32 [batch, height, width, channels]", got()); });
  check(window >= 1 && stride >= 1 && window <= in.shape[1] && window <= in.shape[2], ErrorCode::plan,
        [&] { return str(kernel, ": expected a window that fits the input, and a stride of at least 1", got()); });
  const int64_t out_height = (in.shape[1] - window) / stride + 1, out_width = (in.shape[2] - window) / stride + 1;
  const Shape expected{in.shape[0], out_height, out_width, in.shape[3]};
  check(out.shape == expected, ErrorCode::plan,
        [&] { return str(kernel, ": expected an output of ", to_string(expected), got()); });
  return {in.shape[1], in.shape[2], in.shape[3], out_height, out_width, window, stride};
}

}  // namespace

void run(Backend, Stream& stream, const MaxPool2d& op) {
  const PoolSizes sizes = checked_sizes("max_pool2d", op.in, op.out, op.window, op.stride);
  const int64_t pixels = op.out.shape[0] * sizes.out_height * sizes.out_width;
  backend::rowwise(stream, pixels, sizes.channels, MaxOfWindow{data<float>(op.out), data<float>(op.in), sizes});
}

void run(Backend, Stream& stream, const MaxPool2dGrad& op) {
  const PoolSizes sizes = checked_sizes("max_pool2d gradient", op.in, op.out, op.window, op.stride);
  check(op.d_in.shape == op.in.shape && op.d_out.shape == op.out.shape, ErrorCode::plan, [&] {
    return str("max_pool2d gradient: expected gradients of ", to_string(op.in.shape), " and ", to_string(op.out.shape),
               ", got ", to_string(op.d_in.shape), " and ", to_string(op.d_out.shape));
  });
  const int64_t pixels = op.in.shape[0] * sizes.height * sizes.width;
  const auto collect = [&]<int kWindow>(std::integral_constant<int, kWindow>) {
    backend::rowwise(stream, pixels, sizes.channels,
                     CollectFromWindows<kWindow>{data<float>(op.d_in), data<float>(op.d_out), data<float>(op.in),
                                                 data<float>(op.out), sizes});
  };
  if (op.window == 2) return collect(std::integral_constant<int, 2>());
  if (op.window == 3) return collect(std::integral_constant<int, 3>());
  collect(std::integral_constant<int, 0>());
}

}  // namespace lockstep
