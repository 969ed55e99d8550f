// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d.h"

#include <algorithm>

#include "kernels/conv2d_columns.h"
#include "kernels/device/memory_backend.h"
#include "kernels/matmul.h"

namespace lockstep {
namespace {

// Columns of a group of images, kept by the stream.
class ColumnScratch {
 public:
  ColumnScratch() = default;
  ColumnScratch(const ColumnScratch&) = delete;
  ColumnScratch& operator=(const ColumnScratch&) = delete;
  ~ColumnScratch() { release(); }

  float* at_least(Stream& stream, int64_t elements) {
    if (elements <= elements_) return memory_;
    stream.synchronize();  // queued work may still read the old columns
    release();
    kind_ = stream.device().kind;
    const int64_t bytes = elements * int64_t(sizeof(float));
    memory_ = static_cast<float*>(kind_ == DeviceKind::cpu ? cpu_backend::allocate(bytes)
                                                           : cuda_backend::allocate(stream.device().index, bytes));
    check(memory_ != nullptr, ErrorCode::device, [&] {
      return str("conv2d: no ", bytes, " bytes for columns on ", to_string(stream.device()), "; use a smaller image");
    });
    elements_ = elements;
    return memory_;
  }

 private:
  void release() {
    if (memory_) kind_ == DeviceKind::cpu ? cpu_backend::release(memory_) : cuda_backend::release(memory_);
    memory_ = nullptr;
    elements_ = 0;
  }
  float* memory_ = nullptr;
  int64_t elements_ = 0;
  DeviceKind kind_ = DeviceKind::cpu;
};

// On the CPU columns should stay in cache; a GPU wants them many.
constexpr int64_t kColumnsOnCpu = 1 << 17, kColumnsOnCuda = 1 << 24;

// f(first image, the sizes of the group) for groups of images, as many as fit the columns: a function of the shape.
template <class F>
void for_each_group(Stream& stream, const Conv2dSizes& sizes, const F& f) {
  const int64_t per_image = std::max<int64_t>(1, sizes.pixels() * sizes.patch());
  const int64_t limit = stream.device().kind == DeviceKind::cpu ? kColumnsOnCpu : kColumnsOnCuda;
  const int64_t group = std::min(sizes.batch, std::max<int64_t>(1, limit / per_image));
  float* columns = stream.state<ColumnScratch>().at_least(stream, group * per_image);
  for (int64_t first = 0; first < sizes.batch; first += group) {
    Conv2dSizes part = sizes;
    part.batch = std::min(group, sizes.batch - first);
    f(first, part, columns);
  }
}

template <class Data>
auto matrix(const Stream& stream, Data* data, int64_t rows, int64_t columns) {
  using Result = std::conditional_t<std::is_const_v<Data>, ConstView, View>;
  return Result{data, DType::f32, stream.device().kind, Shape{rows, columns}};
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

void conv2d_by_columns(Stream& stream, const Conv2d& op) {
  const Conv2dSizes sizes = conv2d_sizes(op);
  const bool biased = op.bias.data != nullptr;
  for_each_group(stream, sizes, [&](int64_t first, const Conv2dSizes& group, float* columns) {
    const int64_t rows = group.batch * group.pixels();
    const float* in = data<float>(op.in) + first * group.height * group.width * group.channels;
    float* out = data<float>(op.out) + first * group.pixels() * group.out_channels;
    launch(stream, PatchesToColumns{columns, in, group});
    if (biased) launch(stream, RepeatRow{out, data<float>(op.bias), rows, group.out_channels});
    launch(stream, Matmul{.out = matrix(stream, out, rows, group.out_channels),
                          .a = matrix<const float>(stream, columns, rows, group.patch()),
                          .b = matrix(stream, data<float>(op.weight), group.patch(), group.out_channels),
                          .accumulate = biased});
  });
}

void conv2d_by_columns(Stream& stream, const Conv2dGradInput& op) {
  const Conv2dSizes sizes = conv2d_sizes("conv2d gradient", op.d_in, op.weight, op.d_out, op.geometry);
  for_each_group(stream, sizes, [&](int64_t first, const Conv2dSizes& group, float* columns) {
    const int64_t rows = group.batch * group.pixels();
    const float* d_out = data<float>(op.d_out) + first * group.pixels() * group.out_channels;
    float* d_in = data<float>(op.d_in) + first * group.height * group.width * group.channels;
    launch(stream, Matmul{.out = matrix(stream, columns, rows, group.patch()),
                          .a = matrix(stream, d_out, rows, group.out_channels),
                          .b = matrix(stream, data<float>(op.weight), group.patch(), group.out_channels),
                          .transpose_b = true});
    launch(stream, ColumnsToPatches{d_in, columns, group});
  });
}

void conv2d_by_columns(Stream& stream, const Conv2dGradWeight& op) {
  const Conv2dSizes sizes = conv2d_sizes("conv2d gradient", op.in, op.d_weight, op.d_out, op.geometry);
  const auto add = [&](const float* columns, const float* d_out, int64_t rows, bool accumulate) {
    launch(stream, Matmul{.out = matrix(stream, data<float>(op.d_weight), sizes.patch(), sizes.out_channels),
                          .a = matrix(stream, columns, rows, sizes.patch()),
                          .b = matrix(stream, d_out, rows, sizes.out_channels),
                          .transpose_a = true,
                          .accumulate = accumulate});
  };
  if (sizes.batch == 0) return add(nullptr, nullptr, 0, false);
  for_each_group(stream, sizes, [&](int64_t first, const Conv2dSizes& group, float* columns) {
    const float* in = data<float>(op.in) + first * group.height * group.width * group.channels;
    launch(stream, PatchesToColumns{columns, in, group});
    add(columns, data<float>(op.d_out) + first * group.pixels() * group.out_channels, group.batch * group.pixels(),
        first > 0);
  });
}

}  // namespace lockstep
