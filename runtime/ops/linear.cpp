// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"
#include "runtime/ops.h"

namespace lockstep {
namespace {

Tensor result_of(Context& context, std::string_view op, const Tensor& a, const Tensor& b) {
  check(a.shape().rank() == 2 && b.shape().rank() == 2 && a.shape()[1] == b.shape()[0], ErrorCode::plan, [&] {
    return str(op, ": expected matrices [m, k] and [k, n], got ", to_string(a.shape()), " and ", to_string(b.shape()));
  });
  return context.empty({a.shape()[0], b.shape()[1]});
}

void check_bias(std::string_view op, const Tensor& weight, const Tensor& bias) {
  check(bias.shape() == Shape{weight.shape()[1]}, ErrorCode::plan,
        [&] { return str(op, ": expected a bias of shape [", weight.shape()[1], "], got ", to_string(bias.shape())); });
}

void product_gradients(Context& context, Gradients& grad, const ConstView& out, const Tensor& a, const Tensor& b) {
  if (grad.wanted(1)) context.launch(Matmul{.out = grad.in(1), .a = a, .b = out, .transpose_a = true});
  if (grad.wanted(0)) context.launch(Matmul{.out = grad.in(0), .a = out, .b = b, .transpose_b = true});
}

}  // namespace

Tensor matmul(Call call, const Tensor& a, const Tensor& b) {
  Tensor y = result_of(call.context, "matmul", a, b);
  call.context.launch(Matmul{.out = y, .a = a, .b = b});
  call.record("matmul", {a.position(), b.position()}, y,
              [a, b](Context& context, Gradients& grad) { product_gradients(context, grad, grad.out(), a, b); });
  return y;
}

Tensor linear(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = result_of(call.context, "linear", x, weight);
  check_bias("linear", weight, bias);
  call.context.launch(Matmul{.out = y, .a = x, .b = weight, .bias = bias});
  call.record("linear", {x.position(), weight.position(), bias.position()}, y,
              [x, weight](Context& context, Gradients& grad) {
                if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = grad.out()});
                product_gradients(context, grad, grad.out(), x, weight);
              });
  return y;
}

Tensor linear_gelu(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = result_of(call.context, "linear_gelu", x, weight), before = call.context.empty_like(y);
  check_bias("linear_gelu", weight, bias);
  call.context.launch(
      Matmul{.out = y, .a = x, .b = weight, .bias = bias, .activation = Activation::gelu, .before = before});
  call.record("linear_gelu", {x.position(), weight.position(), bias.position()}, y,
              [x, weight, before](Context& context, Gradients& grad) {
                const Tensor inner = context.empty_like(before);
                context.launch(UnaryGrad<Gelu>{inner, grad.out(), before});
                if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = inner});
                product_gradients(context, grad, inner, x, weight);
              });
  return y;
}

}  // namespace lockstep
