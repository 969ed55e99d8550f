// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/ops/op_cases.h"

#include <cmath>
#include <numeric>

#include "kernels/device/transfer.h"
#include "kernels/dropout.h"
#include "kernels/philox.h"
#include "runtime/ops/ops.h"
#include "tools/bench/ops/language_cases.h"
#include "tools/bench/ops/language_references.h"
#include "tools/bench/ops/op_references.h"

namespace lockstep {
namespace {

constexpr uint64_t kSeed = 7;

OpInput labels(int64_t rows, double classes) { return {{rows}, DType::i32, false, 0, classes}; }
OpInput constant(const Shape& shape) { return {shape, DType::f32, false}; }

OpCase unary(const std::string& op, Tensor (*run)(Call, const Tensor&), double (*reference)(double), double tolerance) {
  return {op,
          "",
          {{{5, 37}}},
          {{{128, 512}}},
          [run](Context& context, const std::vector<Tensor>& x) { return run(context, x[0]); },
          [reference](const std::vector<DoubleTensor>& x) { return reference::map(x[0], reference); },
          tolerance,
          0};
}

OpCase binary(const std::string& op, Tensor (*run)(Call, const Tensor&, const Tensor&),
              double (*reference)(double, double)) {
  return {op,
          "",
          {{{7, 11}}, {{7, 11}}},
          {{{128, 512}}, {{128, 512}}},
          [run](Context& context, const std::vector<Tensor>& x) { return run(context, x[0], x[1]); },
          [reference](const std::vector<DoubleTensor>& x) { return reference::map(x[0], x[1], reference); },
          1e-6,
          0};
}

OpCase convolution(const std::string& note, std::vector<OpInput> inputs, std::vector<OpInput> large, int stride,
                   int padding, int64_t large_flops) {
  return {"conv2d",
          note,
          std::move(inputs),
          std::move(large),
          [=](Context& context, const std::vector<Tensor>& x) {
            return conv2d(context, x[0], x[1], x[2], {.stride = stride, .padding = padding});
          },
          [=](const std::vector<DoubleTensor>& x) { return reference::conv2d(x, stride, padding); },
          1e-5,
          large_flops};
}

OpCase pooling(const std::string& note, int window, int stride, std::vector<OpInput> large) {
  return {"max_pool2d",
          note,
          {{{2, 7, 6, 5}}},
          std::move(large),
          [=](Context& context, const std::vector<Tensor>& x) { return max_pool2d(context, x[0], window, stride); },
          [=](const std::vector<DoubleTensor>& x) { return reference::max_pool2d(x[0], window, stride); },
          1e-6,
          0};
}

OpCase products(const std::string& op, std::vector<OpInput> inputs, std::vector<OpInput> large, int64_t large_flops) {
  return {op,
          "",
          std::move(inputs),
          std::move(large),
          [](Context& context, const std::vector<Tensor>& x) {
            return x.size() == 2 ? matmul(context, x[0], x[1]) : linear(context, x[0], x[1], x[2]);
          },
          [](const std::vector<DoubleTensor>& x) {
            return x.size() == 2 ? reference::matmul(x[0], x[1]) : reference::linear(x);
          },
          1e-5,
          large_flops};
}

// Rows of a multiple of eight take another path on a GPU.
OpCase activated_product(const std::string& note, std::vector<OpInput> inputs, std::vector<OpInput> large,
                         int64_t large_flops) {
  return {"linear_gelu",
          note,
          std::move(inputs),
          std::move(large),
          [](Context& context, const std::vector<Tensor>& x) { return linear_gelu(context, x[0], x[1], x[2]); },
          [](const std::vector<DoubleTensor>& x) { return reference::map(reference::linear(x), reference::gelu); },
          1e-5,
          large_flops};
}

// An op over an axis of one rank, whose value and gradient are those of the identity; for more ranks see
// tests/runtime/ops/collective_ops_test.cpp. It is added to its operand, because the op returns that itself.
OpCase alone_on_axis(const std::string& op, Tensor (*run)(Context&, const Tensor&)) {
  return {op,
          "one rank",
          {{{6, 5}}},
          {},
          [run](Context& context, const std::vector<Tensor>& x) { return add(context, run(context, x[0]), x[0]); },
          [](const std::vector<DoubleTensor>& x) { return reference::map(x[0], [](double v) { return 2 * v; }); },
          1e-6,
          0};
}

}  // namespace

std::vector<OpCase> op_cases() {
  using Tensors = std::vector<Tensor>;
  using Doubles = std::vector<DoubleTensor>;
  std::vector<OpCase> cases{
      unary("relu", relu, reference::relu, 1e-6),
      unary("gelu", gelu, reference::gelu, 2e-6),
      unary("tanh", tanh, std::tanh, 1e-6),
      unary("sigmoid", sigmoid, reference::sigmoid, 1e-6),
      binary("add", add, [](double a, double b) { return a + b; }),
      binary("multiply", multiply, [](double a, double b) { return a * b; }),
      products("matmul", {{{5, 7}}, {{7, 3}}}, {{{128, 512}}, {{512, 512}}}, 2 * 128 * 512 * 512),
      {"matmul_transposed",
       "",
       {{{5, 7}}, {{3, 7}}},
       {{{128, 512}}, {{512, 512}}},
       [](Context& c, const Tensors& x) { return matmul_transposed(c, x[0], x[1]); },
       [](const Doubles& x) { return reference::matmul(x[0], reference::transposed(x[1])); },
       1e-5,
       2 * 128 * 512 * 512},
      products("linear", {{{6, 5}}, {{5, 9}}, {{9}}}, {{{128, 784}}, {{784, 512}}, {{512}}}, 2 * 128 * 784 * 512),
      activated_product("", {{{6, 5}}, {{5, 9}}, {{9}}}, {{{128, 784}}, {{784, 512}}, {{512}}}, 2 * 128 * 784 * 512),
      activated_product("eights", {{{6, 5}}, {{5, 16}}, {{16}}}, {}, 0),
      {"layer_norm",
       "",
       {{{4, 21}}, {{21}}, {{21}}},
       {{{128, 512}}, {{512}}, {{512}}},
       [](Context& c, const Tensors& x) { return layer_norm(c, x[0], x[1], x[2]); },
       [](const Doubles& x) { return reference::layer_norm(x); },
       1e-5,
       0},
      {"softmax_cross_entropy",
       "",
       {{{6, 10}}, labels(6, 10)},
       {{{128, 10}}, labels(128, 10)},
       [](Context& c, const Tensors& x) { return softmax_cross_entropy(c, x[0], x[1]); },
       [](const Doubles& x) { return reference::softmax_cross_entropy(x); },
       2e-6,
       0},
      {"mean",
       "",
       {{{5, 7}}},
       {{{128, 512}}},
       [](Context& c, const Tensors& x) { return mean(c, x[0]); },
       [](const Doubles& x) { return reference::mean(x[0]); },
       1e-6,
       0},
      {"dropout",
       "",
       {{{9, 13}}},
       {{{128, 512}}},
       [](Context& c, const Tensors& x) { return dropout(c, x[0], 0.3f); },
       [](const Doubles& x) { return reference::dropout(x[0], 0.3, kSeed, 0); },
       1e-6,
       0},
      {"reshape",
       "",
       {{{6, 4}}},
       {{{128, 512}}},
       [](Context& c, const Tensors& x) {
         return reshape(c, x[0], {x[0].size() / 8, 8});
       },
       [](const Doubles& x) {
         return DoubleTensor{{x[0].shape.size() / 8, 8}, x[0].values};
       },
       0,
       0},
      convolution("3x3", {{{2, 6, 5, 3}}, {{3, 3, 3, 4}}, {{4}}}, {{{128, 26, 26, 32}}, {{3, 3, 32, 64}}, {{64}}}, 1, 0,
                  2LL * 128 * 24 * 24 * 9 * 32 * 64),
      convolution("3x3 one channel", {{{3, 7, 7, 1}}, {{3, 3, 1, 2}}, {{2}}},
                  {constant({128, 28, 28, 1}), {{3, 3, 1, 32}}, {{32}}}, 1, 0, 2LL * 128 * 26 * 26 * 9 * 32),
      convolution("5x3 stride 2 padding 1", {{{2, 8, 9, 2}}, {{5, 3, 2, 3}}, {{3}}}, {}, 2, 1, 0),
      pooling("2x2", 2, 2, {{{128, 24, 24, 64}}}),
      pooling("3x3 stride 2", 3, 2, {}),
      alone_on_axis("all_reduce", [](Context& c, const Tensor& x) { return all_reduce(c, x, "model"); }),
      alone_on_axis("all_gather", [](Context& c, const Tensor& x) { return all_gather(c, x, 1, "model"); }),
      alone_on_axis("reduce_scatter", [](Context& c, const Tensor& x) { return reduce_scatter(c, x, 1, "model"); }),
      alone_on_axis("copy_to_axis", [](Context& c, const Tensor& x) { return copy_to_axis(c, x, "model"); }),
      alone_on_axis("sum_over_axis", [](Context& c, const Tensor& x) { return sum_over_axis(c, x, "model"); }),
  };
  for (OpCase& op : language_op_cases()) cases.push_back(std::move(op));
  for (OpCase& op : cases_in_bf16(cases)) cases.push_back(std::move(op));
  return cases;
}

uint64_t op_case_dropout_key() { return dropout_key(kSeed, 0); }

std::vector<Tensor> random_inputs(Stream& stream, Pool& pool, const std::vector<OpInput>& inputs, uint64_t seed) {
  Pool host_pool({});
  std::vector<Tensor> tensors;
  for (size_t t = 0; t < inputs.size(); ++t) {
    const OpInput& input = inputs[t];
    const Tensor host(host_pool, input.dtype, input.shape);
    for (int64_t i = 0; i < host.size(); ++i) {
      const double draw = double(philox4x32(seed, uint64_t(i), t).v[0]) * 0x1p-32;
      const double value = input.low + (input.high - input.low) * draw;
      if (input.dtype == DType::i32)
        data<int32_t>(View(host))[i] = int32_t(std::floor(value));
      else
        dispatch_float(input.dtype, [&]<class T>(TypeTag<T>) { data<T>(View(host))[i] = T(float(value)); });
    }
    tensors.emplace_back(pool, input.dtype, input.shape);
    copy(stream, tensors.back(), host);
    stream.synchronize();  // the host's memory goes after this
  }
  return tensors;
}

Tensor set_sample_ids(Context& context, std::vector<int64_t>& ids, int64_t rows) {
  ids.resize(size_t(rows));
  std::iota(ids.begin(), ids.end(), int64_t(0));
  ids.push_back(int64_t(op_case_dropout_key()));
  Tensor cells = Tensor::borrow(ConstView{ids.data(), DType::i64, DeviceKind::cpu, Shape{rows + 1}});
  if (context.stream().device().kind != DeviceKind::cpu) {
    const Tensor host = cells;
    cells = context.empty({rows + 1}, DType::i64);
    copy(context.stream(), cells, host);
  }
  ConstView key = slice(ConstView(cells), rows, rows + 1);
  key.shape = {};
  context.random() = {.key = key, .sample_ids = slice(ConstView(cells), 0, rows)};
  return cells;
}

}  // namespace lockstep
