// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d.h"
#include "kernels/max_pool.h"
#include "kernels/reduction.h"
#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

// Convolutions compute in f32; with a narrow weight, their operands are first rounded to its dtype.
Tensor rounded(Context& context, const Tensor& x, DType dtype) {
  return as_dtype(context, as_dtype(context, x, dtype), DType::f32);
}

}  // namespace

Tensor conv2d(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dGeometry& geometry) {
  check(x.shape().rank() == 4 && weight.shape().rank() == 4 && x.shape()[3] == weight.shape()[2] &&
            bias.shape() == Shape{weight.shape()[3]},
        ErrorCode::plan, [&] {
          return str("conv2d: expected x [batch, height, width, channels], weight [kernel_height, kernel_width, ",
                     "channels, out_channels] and bias [out_channels], got ", to_string(x.shape()), ", ",
                     to_string(weight.shape()), " and ", to_string(bias.shape()));
        });
  Tensor y = call.context.empty({x.shape()[0], conv2d_out_size(x.shape()[1], weight.shape()[0], geometry),
                                 conv2d_out_size(x.shape()[2], weight.shape()[1], geometry), weight.shape()[3]});
  const DType dtype = weight.dtype();
  const Tensor in = rounded(call.context, x, dtype), kernel = as_dtype(call.context, weight, DType::f32);
  call.context.launch(Conv2d{.out = y, .in = in, .weight = kernel, .bias = bias, .geometry = geometry});
  call.record(
      "conv2d", {x.position(), weight.position(), bias.position()}, y,
      [in, kernel, dtype, geometry](Context& context, Gradients& grad) {
        if (grad.wanted(2)) {
          ConstView rows = grad.out();
          const int64_t channels = rows.shape[3];
          rows.shape = Shape{channels > 0 ? rows.size() / channels : 0, channels};
          context.launch(ColumnSum{.out = grad.in(2), .in = rows});
        }
        if (!grad.wanted(0) && !grad.wanted(1)) return;
        const Tensor d_out = rounded(context, Tensor::borrow(grad.out()), dtype);
        if (grad.wanted(1))
          context.launch(Conv2dGradWeight{.d_weight = grad.in(1), .d_out = d_out, .in = in, .geometry = geometry});
        if (grad.wanted(0))
          context.launch(Conv2dGradInput{.d_in = grad.in(0), .d_out = d_out, .weight = kernel, .geometry = geometry});
      });
  return y;
}

Tensor max_pool2d(Call call, const Tensor& x, int window, int stride) {
  check(x.shape().rank() == 4 && window > 0 && stride > 0, ErrorCode::plan, [&] {
    return str("max_pool2d: expected x [batch, height, width, channels] and a window and stride above 0, got ",
               to_string(x.shape()), ", ", window, " and ", stride);
  });
  const Conv2dGeometry geometry{.stride = stride, .padding = 0};
  Tensor y = call.context.empty({x.shape()[0], conv2d_out_size(x.shape()[1], window, geometry),
                                 conv2d_out_size(x.shape()[2], window, geometry), x.shape()[3]});
  call.context.launch(MaxPool2d{.out = y, .in = x, .window = window, .stride = stride});
  call.record("max_pool2d", {x.position()}, y, [x, y, window, stride](Context& context, Gradients& grad) {
    context.launch(
        MaxPool2dGrad{.d_in = grad.in(0), .d_out = grad.out(), .in = x, .out = y, .window = window, .stride = stride});
  });
  return y;
}

}  // namespace lockstep
