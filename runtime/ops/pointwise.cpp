// SPDX-License-Identifier: Apache-2.0
#include "kernels/pointwise.h"

#include "kernels/dropout.h"
#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

template <class F>
Tensor unary(const Call& call, std::string_view name, const Tensor& x) {
  Tensor y = call.context.empty_like(x);
  call.context.launch(Unary<F>{.out = y, .in = x});
  call.record(name, {x.position()}, y, [x](Context& context, Gradients& grad) {
    context.launch(UnaryGrad<F>{.d_in = grad.in(0), .d_out = grad.out(), .in = x});
  });
  return y;
}

}  // namespace

void check_alike(std::string_view op, const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape() && a.dtype() == b.dtype(), ErrorCode::plan, [&] {
    return str(op, ": expected two tensors of one shape and dtype, got ", to_string(a.dtype()), " ",
               to_string(a.shape()), " and ", to_string(b.dtype()), " ", to_string(b.shape()));
  });
}

void record_sum(const Call& call, const Tensor& a, const Tensor& b, Tensor& sum) {
  call.record("add", {a.position(), b.position()}, sum, [](Context&, Gradients& grad) {
    if (grad.wanted(0)) grad.pass(0);
    if (grad.wanted(1)) grad.pass(1);
  });
}

Tensor relu(Call call, const Tensor& x) { return unary<Relu>(call, "relu", x); }
Tensor gelu(Call call, const Tensor& x) { return unary<Gelu>(call, "gelu", x); }
Tensor tanh(Call call, const Tensor& x) { return unary<Tanh>(call, "tanh", x); }
Tensor sigmoid(Call call, const Tensor& x) { return unary<Sigmoid>(call, "sigmoid", x); }

Tensor add(Call call, const Tensor& a, const Tensor& b) {
  check_alike("add", a, b);
  Tensor y = call.context.empty_like(a);
  call.context.launch(Binary<Plus>{.out = y, .a = a, .b = b});
  record_sum(call, a, b, y);
  return y;
}

Tensor multiply(Call call, const Tensor& a, const Tensor& b) {
  check_alike("multiply", a, b);
  Tensor y = call.context.empty_like(a);
  call.context.launch(Binary<Times>{.out = y, .a = a, .b = b});
  call.record("multiply", {a.position(), b.position()}, y, [a, b](Context& context, Gradients& grad) {
    if (grad.wanted(0)) context.launch(Binary<Times>{.out = grad.in(0), .a = grad.out(), .b = b});
    if (grad.wanted(1)) context.launch(Binary<Times>{.out = grad.in(1), .a = grad.out(), .b = a});
  });
  return y;
}

Tensor dropout(Call call, const Tensor& x, float rate) {
  check(rate >= 0 && rate < 1, ErrorCode::usage, [&] { return str("dropout: expected a rate in [0, 1), got ", rate); });
  Context& context = call.context;
  if (!context.training() || rate == 0) return x;
  RandomPosition& random = context.random();
  const int64_t samples = random.sample_ids.size();
  check(x.shape().rank() >= 1 && (samples > 0 ? x.shape()[0] % samples : x.shape()[0]) == 0, ErrorCode::plan, [&] {
    return str("dropout: expected a sample id for every row of ", to_string(x.shape()),
               ", or for as many rows each, got ", samples, "; set Context::random().sample_ids");
  });
  check(random.key.data != nullptr, ErrorCode::plan, "dropout: expected a key; set Context::random().key");
  Tensor y = context.empty_like(x);
  const Dropout kernel{
      .out = y, .in = x, .sample_ids = random.sample_ids, .key = random.key, .op = random.next_op++, .rate = rate};
  context.launch(kernel);
  call.record("dropout", {x.position()}, y, [kernel](Context& inner, Gradients& grad) {
    Dropout gradient = kernel;
    gradient.out = grad.in(0);
    gradient.in = grad.out();
    inner.launch(gradient);
  });
  return y;
}

Tensor reshape(Call call, const Tensor& x, const Shape& shape) {
  Tensor y = x.reshaped(shape);
  call.record("reshape", {x.position()}, y, [](Context&, Gradients& grad) { grad.pass(0); });
  return y;
}

}  // namespace lockstep
