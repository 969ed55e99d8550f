// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d.h"

#include <algorithm>

#include "kernels/conv2d_columns.h"
#include "kernels/matmul.h"

namespace lockstep {
namespace {

// On the CPU the columns should stay in cache; a GPU wants many of them.
constexpr int64_t kColumnsOnCpu = 1 << 17, kColumnsOnCuda = 1 << 24;

// Cuts a batch into groups of as many images as fit the columns, a function of the shape. Scratch holds the columns of
// a group, and behind them what the product needs.
struct ColumnGroups {
  Conv2dSizes sizes;
  int64_t images;  // in a full group

  ColumnGroups(const Stream& stream, const Conv2dSizes& s) : sizes(s) {
    const int64_t limit = stream.device().kind == DeviceKind::cpu ? kColumnsOnCpu : kColumnsOnCuda;
    images = std::min(sizes.batch, std::max<int64_t>(1, limit / std::max<int64_t>(1, per_image())));
  }
  int64_t per_image() const { return sizes.pixels() * sizes.patch(); }
  int64_t columns_bytes() const { return scratch_piece(images * per_image() * int64_t(sizeof(float))); }

  Conv2dSizes group(int64_t first) const {
    Conv2dSizes part = sizes;
    part.batch = std::min(images, sizes.batch - first);
    return part;
  }

  // Calls f(first image, sizes of the group) for each group.
  template <class F>
  void each(const F& f) const {
    for (int64_t first = 0; first < sizes.batch; first += images) f(first, group(first));
  }
};

template <class Data>
auto matrix(const Stream& stream, Data* data, int64_t rows, int64_t columns) {
  using Result = std::conditional_t<std::is_const_v<Data>, ConstView, View>;
  return Result{data, DType::f32, stream.device().kind, Shape{rows, columns}};
}

// The product of a group of images, given the group's columns and its part of the output or its gradient.
Matmul product(const Stream& stream, const Conv2d& op, const Conv2dSizes& group, float* columns, float* out) {
  const int64_t rows = group.batch * group.pixels();
  return {.out = matrix(stream, out, rows, group.out_channels),
          .a = matrix<const float>(stream, columns, rows, group.patch()),
          .b = matrix(stream, data<float>(op.weight), group.patch(), group.out_channels),
          .accumulate = op.bias.data != nullptr};
}

Matmul product(const Stream& stream, const Conv2dGradInput& op, const Conv2dSizes& group, float* columns,
               const float* d_out) {
  const int64_t rows = group.batch * group.pixels();
  return {.out = matrix(stream, columns, rows, group.patch()),
          .a = matrix(stream, d_out, rows, group.out_channels),
          .b = matrix(stream, data<float>(op.weight), group.patch(), group.out_channels),
          .transpose_b = true};
}

Matmul product(const Stream& stream, const Conv2dGradWeight& op, const Conv2dSizes& group, float* columns,
               const float* d_out) {
  const int64_t rows = group.batch * group.pixels();
  return {.out = matrix(stream, data<float>(op.d_weight), group.patch(), group.out_channels),
          .a = matrix<const float>(stream, columns, rows, group.patch()),
          .b = matrix(stream, d_out, rows, group.out_channels),
          .transpose_a = true};
}

template <class Op>
int64_t scratch_by_columns(Stream& stream, const Op& op) {
  const ColumnGroups groups(stream, conv2d_sizes(op));
  // All groups but the last are alike.
  const int64_t batch = groups.sizes.batch, last = batch > 0 ? (batch - 1) / groups.images * groups.images : 0;
  int64_t product_bytes = 0;
  for (const int64_t first : {int64_t(0), last})
    product_bytes =
        std::max(product_bytes, scratch_bytes_of(stream, product(stream, op, groups.group(first), nullptr, nullptr)));
  return groups.columns_bytes() + product_bytes;
}

}  // namespace

int64_t conv2d_out_size(int64_t in, int64_t kernel, const Conv2dGeometry& geometry) {
  check(geometry.stride >= 1 && geometry.padding >= 0, ErrorCode::plan, [&] {
    return str("conv2d: expected a stride of at least 1 and no negative padding, got ", geometry.stride, " and ",
               geometry.padding);
  });
  const int64_t room = in + 2 * geometry.padding - kernel;
  check(kernel >= 1 && room >= 0, ErrorCode::plan, [&] {
    return str("conv2d: a window of ", kernel, " does not fit an input of ", in, " with padding ", geometry.padding,
               "; use a smaller window or more padding");
  });
  return room / geometry.stride + 1;
}

Conv2dSizes conv2d_sizes(std::string_view kernel, const ConstView& in, const ConstView& weight, const ConstView& out,
                         const Conv2dGeometry& geometry) {
  const auto got = [&] {
    return str(", got input ", to_string(in.shape), ", weight ", to_string(weight.shape), ", output ",
               to_string(out.shape), "; activations are [batch, height, width, channels], weights [kernel_height, ",
               "kernel_width, channels, out_channels]");
  };
  for (const ConstView& view : {in, weight, out})
    check(view.dtype == DType::f32 && view.shape.rank() == 4, ErrorCode::plan,
          [&] { return str(kernel, ": expected f32 arrays of 4 dimensions", got()); });
  const Shape &x = in.shape, &w = weight.shape;
  check(x[3] == w[2] && x[3] > 0 && w[3] > 0, ErrorCode::plan,
        [&] { return str(kernel, ": expected as many input channels as the weight has", got()); });
  const Conv2dSizes sizes{.batch = x[0],
                          .height = x[1],
                          .width = x[2],
                          .channels = x[3],
                          .kernel_height = w[0],
                          .kernel_width = w[1],
                          .out_height = conv2d_out_size(x[1], w[0], geometry),
                          .out_width = conv2d_out_size(x[2], w[1], geometry),
                          .out_channels = w[3],
                          .stride = geometry.stride,
                          .padding = geometry.padding};
  const Shape expected{x[0], sizes.out_height, sizes.out_width, w[3]};
  check(out.shape == expected, ErrorCode::plan,
        [&] { return str(kernel, ": expected an output of ", to_string(expected), got()); });
  return sizes;
}

Conv2dSizes conv2d_sizes(const Conv2d& op) {
  const Conv2dSizes sizes = conv2d_sizes("conv2d", op.in, op.weight, op.out, op.geometry);
  const Shape expected{sizes.out_channels};
  check(op.bias.data == nullptr || (op.bias.shape == expected && op.bias.dtype == DType::f32), ErrorCode::plan, [&] {
    return str("conv2d: expected an f32 bias of ", to_string(expected), ", got ", to_string(op.bias.shape));
  });
  return sizes;
}

Conv2dSizes conv2d_sizes(const Conv2dGradInput& op) {
  return conv2d_sizes("conv2d gradient", op.d_in, op.weight, op.d_out, op.geometry);
}

Conv2dSizes conv2d_sizes(const Conv2dGradWeight& op) {
  return conv2d_sizes("conv2d gradient", op.in, op.d_weight, op.d_out, op.geometry);
}

int64_t columns_scratch(Stream& stream, const Conv2d& op) { return scratch_by_columns(stream, op); }
int64_t columns_scratch(Stream& stream, const Conv2dGradInput& op) { return scratch_by_columns(stream, op); }
int64_t columns_scratch(Stream& stream, const Conv2dGradWeight& op) { return scratch_by_columns(stream, op); }

void conv2d_by_columns(Stream& stream, const Conv2d& op, std::byte* scratch) {
  const ColumnGroups groups(stream, conv2d_sizes(op));
  auto* columns = reinterpret_cast<float*>(scratch);
  groups.each([&](int64_t first, const Conv2dSizes& group) {
    const int64_t rows = group.batch * group.pixels();
    const float* in = data<float>(op.in) + first * group.height * group.width * group.channels;
    float* out = data<float>(op.out) + first * group.pixels() * group.out_channels;
    launch(stream, PatchesToColumns{columns, in, group});
    if (op.bias.data) launch(stream, RepeatRow{out, data<float>(op.bias), rows, group.out_channels});
    launch_with(stream, product(stream, op, group, columns, out), scratch + groups.columns_bytes());
  });
}

void conv2d_by_columns(Stream& stream, const Conv2dGradInput& op, std::byte* scratch) {
  const ColumnGroups groups(stream, conv2d_sizes(op));
  auto* columns = reinterpret_cast<float*>(scratch);
  groups.each([&](int64_t first, const Conv2dSizes& group) {
    const float* d_out = data<float>(op.d_out) + first * group.pixels() * group.out_channels;
    float* d_in = data<float>(op.d_in) + first * group.height * group.width * group.channels;
    launch_with(stream, product(stream, op, group, columns, d_out), scratch + groups.columns_bytes());
    launch(stream, ColumnsToPatches{d_in, columns, group});
  });
}

void conv2d_by_columns(Stream& stream, const Conv2dGradWeight& op, std::byte* scratch) {
  const ColumnGroups groups(stream, conv2d_sizes(op));
  if (groups.sizes.batch == 0)  // a product over no rows gives zeros
    return launch_with(stream, product(stream, op, groups.sizes, nullptr, nullptr), scratch);
  auto* columns = reinterpret_cast<float*>(scratch);
  groups.each([&](int64_t first, const Conv2dSizes& group) {
    const float* in = data<float>(op.in) + first * group.height * group.width * group.channels;
    const float* d_out = data<float>(op.d_out) + first * group.pixels() * group.out_channels;
    launch(stream, PatchesToColumns{columns, in, group});
    Matmul add = product(stream, op, group, columns, d_out);
    add.accumulate = first > 0;
    launch_with(stream, add, scratch + groups.columns_bytes());
  });
}

}  // namespace lockstep
