// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/conv2d_columns.h"
#include "kernels/conv2d_cpu.h"
#include "tests/kernels/arrays.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using testing_support::Array;

struct Case {
  int64_t batch, height, width, channels, kernel_height, kernel_width, out_channels;
  Conv2dGeometry geometry;
  bool bias;
};
// The layers of the cnn (whole groups and rests), odd sizes and channels, strides that leave a rest, padding, 1 x 1.
const std::vector<Case> kCases = cases<Case>(
    {
        {9, 28, 28, 1, 3, 3, 32, {}, true},
        {12, 14, 14, 32, 3, 3, 64, {}, true},
        {16, 9, 9, 32, 3, 3, 64, {}, false},
        {1, 5, 7, 3, 3, 2, 5, {1, 1}, true},
        {3, 8, 9, 2, 3, 3, 4, {2, 1}, false},
        {2, 11, 10, 8, 5, 3, 16, {3, 2}, true},
        {17, 4, 4, 16, 1, 1, 8, {1, 0}, true},
        {2, 6, 6, 5, 6, 6, 3, {1, 0}, false},
        {5, 7, 7, 8, 3, 3, 8, {2, 0}, true},
        {2, 3, 3, 1, 3, 3, 1, {4, 1}, true},
        {3, 6, 5, 24, 2, 2, 40, {1, 1}, false},
    },
    4);

struct Problem {
  Case c;
  int64_t out_height, out_width;
  Array in, weight, bias, out, d_out, d_in, d_weight;

  explicit Problem(const Case& c)
      : c(c),
        out_height(conv2d_out_size(c.height, c.kernel_height, c.geometry)),
        out_width(conv2d_out_size(c.width, c.kernel_width, c.geometry)),
        in(Array::random({c.batch, c.height, c.width, c.channels}, 1)),
        weight(Array::random({c.kernel_height, c.kernel_width, c.channels, c.out_channels}, 2)),
        bias(Array::random({c.out_channels}, 3)),
        out({c.batch, out_height, out_width, c.out_channels}, 77),
        d_out(Array::random(out.shape, 4)),
        d_in(in.shape, 77),
        d_weight(weight.shape, 77) {}

  Conv2d forward() { return {out, in, weight, c.bias ? ConstView(bias) : ConstView(), c.geometry}; }
  Conv2dGradInput grad_input() { return {d_in, d_out, weight, c.geometry}; }
  Conv2dGradWeight grad_weight() { return {d_weight, d_out, in, c.geometry}; }

  // f(index of in, index of weight, index of out) for every product of the convolution.
  template <class F>
  void each_product(const F& f) const {
    for (int64_t n = 0; n < c.batch; ++n)
      for (int64_t y = 0; y < out_height; ++y)
        for (int64_t x = 0; x < out_width; ++x)
          for (int64_t i = 0; i < c.kernel_height; ++i)
            for (int64_t j = 0; j < c.kernel_width; ++j) {
              const int64_t row = y * c.geometry.stride + i - c.geometry.padding;
              const int64_t column = x * c.geometry.stride + j - c.geometry.padding;
              if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
              for (int64_t k = 0; k < c.channels; ++k)
                for (int64_t o = 0; o < c.out_channels; ++o)
                  f(((n * c.height + row) * c.width + column) * c.channels + k,
                    ((i * c.kernel_width + j) * c.channels + k) * c.out_channels + o,
                    ((n * out_height + y) * out_width + x) * c.out_channels + o);
            }
  }
};

// Sums in double beside the sum of magnitudes, to which the error is compared.
struct Reference {
  std::vector<double> sum, size;
  explicit Reference(const Array& like) : sum(like.values.size()), size(like.values.size(), 1e-30) {}
  void add(int64_t at, double term) {
    sum[size_t(at)] += term;
    size[size_t(at)] += std::abs(term);
  }
  double worst_error(const Array& got) const {
    double worst = 0;
    for (size_t i = 0; i < sum.size(); ++i)
      worst = std::max(worst, std::abs(got.values[i] - sum[i]) / (size[i] + 1e-6));
    return worst;
  }
};

std::string describe(const Case& c) {
  return str(c.batch, "x", c.height, "x", c.width, "x", c.channels, " by ", c.kernel_height, "x", c.kernel_width, "x",
             c.out_channels, ", stride ", c.geometry.stride, ", padding ", c.geometry.padding);
}

template <class Run>
void expect_all_three_match_the_reference(const Run& run_op) {
  for (const Case& c : kCases) {
    Problem p(c);
    run_op(p.forward());
    run_op(p.grad_input());
    run_op(p.grad_weight());
    Reference out(p.out), d_in(p.d_in), d_weight(p.d_weight);
    if (c.bias)
      for (int64_t i = 0; i < p.out.shape.size(); ++i) out.add(i, p.bias[i % c.out_channels]);
    p.each_product([&](int64_t in, int64_t weight, int64_t at) {
      out.add(at, double(p.in[in]) * p.weight[weight]);
      d_in.add(in, double(p.d_out[at]) * p.weight[weight]);
      d_weight.add(weight, double(p.d_out[at]) * p.in[in]);
    });
    EXPECT_LT(out.worst_error(p.out), 1e-6) << describe(c);
    EXPECT_LT(d_in.worst_error(p.d_in), 1e-6) << describe(c);
    EXPECT_LT(d_weight.worst_error(p.d_weight), 1e-6) << describe(c);
  }
}

void by_columns(Stream& stream, const auto& op) {
  conv2d_by_columns(stream, op, stream.scratch(columns_scratch(stream, op)));
}
void in_groups(Stream& stream, const auto& op) {
  conv2d_in_groups(stream, op, stream.scratch(groups_scratch(stream, op)));
}

TEST(Conv2d, MatchesADoubleReference) {
  Stream stream = Stream::cpu();
  expect_all_three_match_the_reference([&](const auto& op) { launch(stream, op); });
}

TEST(Conv2d, ByColumnsMatchesADoubleReference) {
  Stream stream = Stream::cpu();
  expect_all_three_match_the_reference([&](const auto& op) { by_columns(stream, op); });
}

// A convolution of views of the host, computed on a GPU.
struct OnGpu {
  Stream& stream;
  Pool& pool;

  void operator()(const Conv2d& op) const {
    const Buffer out = there(op.out), in = there(op.in), weight = there(op.weight);
    const Buffer bias = op.bias.data ? there(op.bias) : Buffer();
    const ConstView bias_view = op.bias.data ? ConstView(as(bias, op.bias)) : ConstView();
    launch(stream, Conv2d{as(out, op.out), as(in, op.in), as(weight, op.weight), bias_view, op.geometry});
    back(op.out, out);
  }
  void operator()(const Conv2dGradInput& op) const {
    const Buffer d_in = there(op.d_in), d_out = there(op.d_out), weight = there(op.weight);
    launch(stream, Conv2dGradInput{as(d_in, op.d_in), as(d_out, op.d_out), as(weight, op.weight), op.geometry});
    back(op.d_in, d_in);
  }
  void operator()(const Conv2dGradWeight& op) const {
    const Buffer d_weight = there(op.d_weight), d_out = there(op.d_out), in = there(op.in);
    launch(stream, Conv2dGradWeight{as(d_weight, op.d_weight), as(d_out, op.d_out), as(in, op.in), op.geometry});
    back(op.d_weight, d_weight);
  }

 private:
  static View as(const Buffer& buffer, const ConstView& like) { return buffer.view(like.dtype, like.shape); }
  Buffer there(const ConstView& host) const {
    Buffer buffer(pool, host.bytes(), Purpose::data);
    copy(stream, as(buffer, host), host);
    return buffer;
  }
  void back(const View& host, const Buffer& buffer) const {
    copy(stream, host, as(buffer, host));
    stream.synchronize();
  }
};

TEST(Conv2d, OnAGpuMatchesADoubleReference) {
  LOCKSTEP_NEEDS_GPU();
  Stream stream = Stream::cuda(0);
  Pool pool(stream.device());
  expect_all_three_match_the_reference(OnGpu{stream, pool});
}

TEST(Conv2d, WithoutALibraryMatchesADoubleReference) {
  Stream stream = Stream::cpu(2);
  expect_all_three_match_the_reference([&](const auto& op) { in_groups(stream, op); });
}

TEST(Conv2d, HasTheSameBitsForAnyNumberOfThreads) {
  for (const Case& c : kCases)
    for (bool library : {false, true}) {
      Problem one(c);
      const auto run_all = [&](int threads, Problem& p) {
        Stream stream = Stream::cpu(threads);
        const auto run_op = [&](const auto& op) { library ? launch(stream, op) : in_groups(stream, op); };
        run_op(p.forward());
        run_op(p.grad_input());
        run_op(p.grad_weight());
      };
      run_all(1, one);
      for (int threads : {2, 3, 5}) {
        Problem many(c);
        run_all(threads, many);
        EXPECT_EQ(one.out.values, many.out.values) << describe(c);
        EXPECT_EQ(one.d_in.values, many.d_in.values) << describe(c);
        EXPECT_EQ(one.d_weight.values, many.d_weight.values) << describe(c);
      }
    }
}

TEST(Conv2d, IsExactOnSmallIntegers) {
  const Array in({1, 3, 3, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9}), weight({2, 2, 1, 1}, {1, 10, 100, 1000});
  const Array bias({1}, 5);
  Array out({1, 2, 2, 1});
  Stream stream = Stream::cpu();
  launch(stream, Conv2d{.out = out, .in = in, .weight = weight, .bias = bias, .geometry = {}});
  EXPECT_THAT(out.values, testing::ElementsAre(5426, 6537, 8759, 9870));
}

TEST(Conv2d, OfAnImageDoesNotDependOnItsPlaceInTheBatch) {
  Problem whole({20, 9, 9, 8, 3, 3, 16, {}, true});
  Stream stream = Stream::cpu();
  launch(stream, whole.forward());
  launch(stream, whole.grad_input());
  Problem part({8, 9, 9, 8, 3, 3, 16, {}, true});
  const int64_t skip = 8;
  std::copy_n(whole.in.values.begin() + skip * 81 * 8, part.in.values.size(), part.in.values.begin());
  std::copy_n(whole.d_out.values.begin() + skip * 49 * 16, part.d_out.values.size(), part.d_out.values.begin());
  launch(stream, part.forward());
  launch(stream, part.grad_input());
  EXPECT_TRUE(std::equal(part.out.values.begin(), part.out.values.end(), whole.out.values.begin() + skip * 49 * 16));
  EXPECT_TRUE(std::equal(part.d_in.values.begin(), part.d_in.values.end(), whole.d_in.values.begin() + skip * 81 * 8));
}

TEST(Conv2d, ServesBatchesOfDifferentSizesOnOneStream) {
  Stream stream = Stream::cpu(2);
  for (int64_t batch : {16, 12, 3, 16, 0, 24}) {
    Problem p({batch, 8, 8, 8, 3, 3, 8, {1, 1}, true}), fresh = p;
    Stream new_stream = Stream::cpu();
    for (auto [problem, on] : {std::pair{&p, &stream}, std::pair{&fresh, &new_stream}}) {
      launch(*on, problem->forward());
      launch(*on, problem->grad_input());
      launch(*on, problem->grad_weight());
    }
    EXPECT_EQ(p.out.values, fresh.out.values) << batch;
    EXPECT_EQ(p.d_in.values, fresh.d_in.values) << batch;
    EXPECT_EQ(p.d_weight.values, fresh.d_weight.values) << batch;
  }
}

TEST(Conv2d, OfAnEmptyBatchHasAWeightGradientOfZero) {
  Problem p({0, 8, 8, 8, 3, 3, 8, {}, true});
  Stream stream = Stream::cpu();
  launch(stream, p.forward());
  launch(stream, p.grad_input());
  launch(stream, p.grad_weight());
  EXPECT_THAT(p.d_weight.values, testing::Each(0));
}

TEST(Conv2d, NamesTheShapesThatDoNotFit) {
  Stream stream = Stream::cpu();
  const Array in({2, 8, 8, 3}), weight({3, 3, 4, 5}), good({3, 3, 3, 5});
  Array out({2, 6, 6, 5}), small({2, 5, 6, 5});
  const auto conv = [&](const Array& w, Array& y, Conv2dGeometry geometry = {}) {
    return [&, geometry] { launch(stream, Conv2d{.out = y, .in = in, .weight = w, .bias = {}, .geometry = geometry}); };
  };
  EXPECT_THAT(conv(weight, out), ThrowsMessage<Error>(HasSubstr("as many input channels as the weight has, got input "
                                                                "[2, 8, 8, 3], weight [3, 3, 4, 5]")));
  EXPECT_THAT(conv(good, small), ThrowsMessage<Error>(HasSubstr("expected an output of [2, 6, 6, 5]")));
  EXPECT_THAT(conv(Array({9, 3, 3, 5}), out),
              ThrowsMessage<Error>(HasSubstr("a window of 9 does not fit an input of 8")));
  EXPECT_THAT(conv(good, out, {.stride = 0}), ThrowsMessage<Error>(HasSubstr("stride of at least 1")));
  EXPECT_THAT(conv(Array({3, 3, 5}), out), ThrowsMessage<Error>(HasSubstr("4 dimensions")));
  EXPECT_THAT(
      ([&] { launch(stream, Conv2d{.out = out, .in = in, .weight = good, .bias = Array({4}), .geometry = {}}); }),
      ThrowsMessage<Error>(HasSubstr("bias of [5], got [4]")));
  Array d_in({2, 8, 9, 3}), d_weight({3, 2, 3, 5});
  EXPECT_THAT(([&] {
                launch(stream, Conv2dGradInput{d_in, out, good, {}});
              }),
              ThrowsMessage<Error>(HasSubstr("conv2d gradient: expected an output of [2, 6, 7, 5]")));
  EXPECT_THAT(([&] {
                launch(stream, Conv2dGradWeight{d_weight, out, in, {}});
              }),
              ThrowsMessage<Error>(HasSubstr("conv2d gradient: expected an output of [2, 6, 7, 5]")));
}

}  // namespace
}  // namespace lockstep
