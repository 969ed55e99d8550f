// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"

namespace lockstep {
namespace {

void check_dtypes(const Matmul& op) {
  const DType in = op.a.dtype, out = op.out.dtype;
  const bool all_f32 = in == DType::f32 && op.b.dtype == DType::f32 && out == DType::f32;
  const bool narrow = is_narrow(in) && op.b.dtype == in && (out == DType::f32 || out == in);
  check(all_f32 || narrow, ErrorCode::plan, [&] {
    return str("matmul: expected f32 matrices, or two of bf16 or of f16 and a result of f32 or their own dtype, got a ",
               to_string(in), ", b ", to_string(op.b.dtype), ", out ", to_string(out), "; cast first");
  });
}

void check_finish(const Matmul& op, int64_t inner) {
  const Shape expected{op.out.shape[1]};
  check(op.bias.shape == Shape{} || (op.bias.shape == expected && op.bias.dtype == op.out.dtype), ErrorCode::plan, [&] {
    return str("matmul: expected a bias of ", to_string(expected), " and dtype ", to_string(op.out.dtype), ", got ",
               to_string(op.bias.shape), " and ", to_string(op.bias.dtype));
  });
  const bool gelu = op.activation == Activation::gelu;
  check(gelu ? op.before.dtype == op.out.dtype && op.before.shape == op.out.shape : op.before.shape == Shape{},
        ErrorCode::plan, [&] {
          return str("matmul: gelu, and nothing else, keeps what it was taken of, in ", to_string(op.out.dtype), " ",
                     to_string(op.out.shape), "; got ", to_string(op.before.dtype), " ", to_string(op.before.shape));
        });
  check(inner > 0 || (!op.has_bias() && op.activation == Activation::none), ErrorCode::plan,
        "matmul: bias and activation need an inner dimension of at least 1");
}

}  // namespace

void check_matmul(const Matmul& op) {
  check_dtypes(op);
  const Shape &a = op.a.shape, &b = op.b.shape, &out = op.out.shape;
  for (const Shape& shape : {out, a, b})
    check(shape.rank() == 2, ErrorCode::plan,
          [&] { return str("matmul: expected matrices of 2 dimensions, got ", to_string(shape), "; reshape first"); });
  const Shape left{a[op.transpose_a ? 1 : 0], a[op.transpose_a ? 0 : 1]};
  const Shape right{b[op.transpose_b ? 1 : 0], b[op.transpose_b ? 0 : 1]};
  check(left[1] == right[0] && out == Shape{left[0], right[1]}, ErrorCode::plan, [&] {
    return str("matmul: expected ", to_string(Shape{left[0], right[1]}), " = [m, k] . [k, n], got out ", to_string(out),
               ", a ", to_string(a), op.transpose_a ? " transposed" : "", ", b ", to_string(b),
               op.transpose_b ? " transposed" : "", "; check the order of the operands and the transpose flags");
  });
  check_finish(op, left[1]);
}

}  // namespace lockstep
