// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"
#include "kernels/reduction.h"
#include "runtime/ops.h"

namespace lockstep {
namespace {

Tensor product(Context& context, std::string_view op, const Tensor& a, const Tensor& b) {
  check(a.shape().rank() == 2 && b.shape().rank() == 2 && a.shape()[1] == b.shape()[0], ErrorCode::plan, [&] {
    return str(op, ": expected matrices [m, k] and [k, n], got ", to_string(a.shape()), " and ", to_string(b.shape()));
  });
  Tensor y = context.empty({a.shape()[0], b.shape()[1]});
  context.launch(Matmul{.out = y, .a = a, .b = b});
  return y;
}

void product_gradients(Context& context, Gradients& grad, const Tensor& a, const Tensor& b) {
  if (grad.wanted(1)) context.launch(Matmul{.out = grad.in(1), .a = a, .b = grad.out(), .transpose_a = true});
  if (grad.wanted(0)) context.launch(Matmul{.out = grad.in(0), .a = grad.out(), .b = b, .transpose_b = true});
}

}  // namespace

Tensor matmul(Call call, const Tensor& a, const Tensor& b) {
  Tensor y = product(call.context, "matmul", a, b);
  call.record("matmul", {a.position(), b.position()}, y,
              [a, b](Context& context, Gradients& grad) { product_gradients(context, grad, a, b); });
  return y;
}

Tensor linear(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = product(call.context, "linear", x, weight);
  check(bias.shape() == Shape{weight.shape()[1]}, ErrorCode::plan, [&] {
    return str("linear: expected a bias of shape [", weight.shape()[1], "], got ", to_string(bias.shape()));
  });
  call.context.launch(AddRowVector{.inout = y, .vector = bias});
  call.record("linear", {x.position(), weight.position(), bias.position()}, y,
              [x, weight](Context& context, Gradients& grad) {
                if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = grad.out()});
                product_gradients(context, grad, x, weight);
              });
  return y;
}

}  // namespace lockstep
