// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"
#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

// Products with a narrow operand take both in its dtype and add up in f32. The result has the dtype of the activations.
DType product_dtype(const Tensor& a, const Tensor& b) { return is_narrow(b.dtype()) ? b.dtype() : a.dtype(); }

Tensor result_of(Context& context, std::string_view op, const Tensor& a, const Tensor& b) {
  check(a.shape().rank() == 2 && b.shape().rank() == 2 && a.shape()[1] == b.shape()[0], ErrorCode::plan, [&] {
    return str(op, ": expected matrices [m, k] and [k, n], got ", to_string(a.shape()), " and ", to_string(b.shape()));
  });
  return context.empty({a.shape()[0], b.shape()[1]}, a.dtype());
}

void check_bias(std::string_view op, const Tensor& weight, const Tensor& bias) {
  check(bias.shape() == Shape{weight.shape()[1]}, ErrorCode::plan,
        [&] { return str(op, ": expected a bias of shape [", weight.shape()[1], "], got ", to_string(bias.shape())); });
}

// What x . weight + bias takes: a result in bf16 wants its bias in bf16.
struct Operands {
  Tensor left, right, bias;
  Operands(Context& context, const Tensor& x, const Tensor& weight, const Tensor& b)
      : left(as_dtype(context, x, product_dtype(x, weight))),
        right(as_dtype(context, weight, left.dtype())),
        bias(as_dtype(context, b, x.dtype())) {}
};

// `a` is what the product took; `b` was rounded to its dtype.
void product_gradients(Context& context, Gradients& grad, const Tensor& d_out, const Tensor& a, const Tensor& b) {
  if (!grad.wanted(0) && !grad.wanted(1)) return;
  const Tensor d_product = as_dtype(context, d_out, a.dtype());
  if (grad.wanted(1)) context.launch(Matmul{.out = grad.in(1), .a = a, .b = d_product, .transpose_a = true});
  if (!grad.wanted(0)) return;
  const Tensor right = as_dtype(context, b, a.dtype());
  context.launch(Matmul{.out = grad.in(0), .a = d_product, .b = right, .transpose_b = true});
}

}  // namespace

Tensor as_dtype(Context& context, const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor converted = context.empty(x.shape(), dtype);
  context.launch(Copy{converted, x});
  return converted;
}

Tensor matmul(Call call, const Tensor& a, const Tensor& b) {
  Tensor y = result_of(call.context, "matmul", a, b);
  const DType dtype = product_dtype(a, b);
  const Tensor left = as_dtype(call.context, a, dtype);
  call.context.launch(Matmul{.out = y, .a = left, .b = as_dtype(call.context, b, dtype)});
  call.record("matmul", {a.position(), b.position()}, y, [left, b](Context& context, Gradients& grad) {
    product_gradients(context, grad, Tensor::borrow(grad.out()), left, b);
  });
  return y;
}

Tensor matmul_transposed(Call call, const Tensor& a, const Tensor& b) {
  check(a.shape().rank() == 2 && b.shape().rank() == 2 && a.shape()[1] == b.shape()[1], ErrorCode::plan, [&] {
    return str("matmul_transposed: expected matrices [m, k] and [n, k], got ", to_string(a.shape()), " and ",
               to_string(b.shape()));
  });
  Tensor y = call.context.empty({a.shape()[0], b.shape()[0]}, a.dtype());
  const DType dtype = product_dtype(a, b);
  const Tensor left = as_dtype(call.context, a, dtype);
  call.context.launch(Matmul{.out = y, .a = left, .b = as_dtype(call.context, b, dtype), .transpose_b = true});
  call.record("matmul_transposed", {a.position(), b.position()}, y, [left, b](Context& context, Gradients& grad) {
    const Tensor d_product = as_dtype(context, Tensor::borrow(grad.out()), left.dtype());
    if (grad.wanted(1)) context.launch(Matmul{.out = grad.in(1), .a = d_product, .b = left, .transpose_a = true});
    if (!grad.wanted(0)) return;
    const Tensor right = as_dtype(context, b, left.dtype());
    context.launch(Matmul{.out = grad.in(0), .a = d_product, .b = right});
  });
  return y;
}

Tensor linear(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = result_of(call.context, "linear", x, weight);
  check_bias("linear", weight, bias);
  const Operands product(call.context, x, weight, bias);
  call.context.launch(Matmul{.out = y, .a = product.left, .b = product.right, .bias = product.bias});
  call.record("linear", {x.position(), weight.position(), bias.position()}, y,
              [left = product.left, weight](Context& context, Gradients& grad) {
                if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = grad.out()});
                product_gradients(context, grad, Tensor::borrow(grad.out()), left, weight);
              });
  return y;
}

Tensor linear_gelu(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = result_of(call.context, "linear_gelu", x, weight), before = call.context.empty_like(y);
  check_bias("linear_gelu", weight, bias);
  const Operands product(call.context, x, weight, bias);
  call.context.launch(Matmul{.out = y,
                             .a = product.left,
                             .b = product.right,
                             .bias = product.bias,
                             .activation = Activation::gelu,
                             .before = before});
  call.record("linear_gelu", {x.position(), weight.position(), bias.position()}, y,
              [left = product.left, weight, before](Context& context, Gradients& grad) {
                const Tensor inner = context.empty_like(before);
                context.launch(UnaryGrad<Gelu>{inner, grad.out(), before});
                if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = inner});
                product_gradients(context, grad, inner, left, weight);
              });
  return y;
}

}  // namespace lockstep
