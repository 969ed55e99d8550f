// SPDX-License-Identifier: Apache-2.0
#include "kernels/max_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/arrays.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;
using testing_support::Array;

struct Case {
  int64_t batch, height, width, channels;
  int window, stride;
};
// The cnn's pool; overlapping windows; gaps between windows; rests at the border; windows known at run time only.
const std::vector<Case> kCases{{4, 24, 24, 64, 2, 2}, {2, 7, 9, 3, 3, 2},   {3, 8, 8, 5, 2, 1}, {2, 9, 8, 17, 2, 3},
                               {1, 4, 4, 1, 4, 1},    {2, 10, 11, 6, 5, 2}, {1, 6, 6, 8, 1, 1}, {2, 5, 5, 70, 3, 3}};

Shape out_shape(const Case& c) {
  return {c.batch, (c.height - c.window) / c.stride + 1, (c.width - c.window) / c.stride + 1, c.channels};
}

// Few distinct values, so that windows hold ties.
Array with_ties(const Shape& shape, uint32_t seed) {
  Array array = Array::random(shape, seed);
  for (float& x : array.values) x = std::round(x);
  return array;
}

// Position in `in` of the first maximum of the window of output element `at`.
int64_t first_maximum(const Case& c, const Array& in, int64_t at) {
  const Shape out = out_shape(c);
  const int64_t channel = at % c.channels, x = at / c.channels % out[2], y = at / (c.channels * out[2]) % out[1];
  const int64_t image = at / (c.channels * out[2] * out[1]);
  int64_t best = -1;
  for (int64_t i = 0; i < c.window; ++i)
    for (int64_t j = 0; j < c.window; ++j) {
      const int64_t element =
          ((image * c.height + y * c.stride + i) * c.width + x * c.stride + j) * c.channels + channel;
      if (best < 0 || in[element] > in[best] || (std::isnan(in[element]) && !std::isnan(in[best]))) best = element;
    }
  return best;
}

TEST(MaxPool2d, TakesTheMaximumAndReturnsTheGradientToTheFirstOne) {
  for (const Case& c : kCases)
    for (int threads : {1, 2, 3}) {
      Stream stream = Stream::cpu(threads);
      const Array in = with_ties({c.batch, c.height, c.width, c.channels}, 5), d_out = Array::random(out_shape(c), 6);
      Array out(out_shape(c), 77), d_in(in.shape, 77), expected(in.shape);
      launch(stream, MaxPool2d{out, in, c.window, c.stride});
      launch(stream, MaxPool2dGrad{d_in, d_out, in, out, c.window, c.stride});
      for (int64_t at = 0; at < out.shape.size(); ++at) {
        const int64_t best = first_maximum(c, in, at);
        EXPECT_EQ(out[at], in[best]);
        expected[best] += d_out[at];
      }
      // Windows add in the same order here and there.
      EXPECT_EQ(d_in.values, expected.values) << c.window << " " << c.stride << " " << threads;
    }
}

TEST(MaxPool2d, GivesTheFirstOfEqualElementsTheWholeGradient) {
  const Array in({1, 2, 2, 1}, {3, 5, 5, 5}), d_out({1, 1, 1, 1}, 2);
  Array out({1, 1, 1, 1}), d_in(in.shape, 9);
  Stream stream = Stream::cpu();
  launch(stream, MaxPool2d{out, in, 2, 2});
  launch(stream, MaxPool2dGrad{d_in, d_out, in, out, 2, 2});
  EXPECT_EQ(out[0], 5);
  EXPECT_THAT(d_in.values, ElementsAre(0, 2, 0, 0));
}

TEST(MaxPool2d, LetsANanThrough) {
  const float nan = std::nanf("");
  for (size_t place = 0; place < 4; ++place) {
    Array in({1, 2, 2, 1}, {3, 5, 1, 4}), out({1, 1, 1, 1}), d_in(in.shape);
    in.values[place] = nan;
    Stream stream = Stream::cpu();
    launch(stream, MaxPool2d{out, in, 2, 2});
    launch(stream, MaxPool2dGrad{d_in, Array({1, 1, 1, 1}, 2), in, out, 2, 2});
    EXPECT_TRUE(std::isnan(out[0])) << place;
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(d_in.values[i], i == place ? 2 : 0) << place;
  }
}

TEST(MaxPool2d, FindsTheMaximumOfNegativeAndInfiniteElements) {
  const float low = -std::numeric_limits<float>::infinity();
  Array out({1, 1, 1, 2});
  Stream stream = Stream::cpu();
  launch(stream, MaxPool2d{out, Array({1, 2, 2, 2}, {low, -3, low, -2, low, -4, low, -5}), 2, 2});
  EXPECT_THAT(out.values, ElementsAre(low, -2));
}

TEST(MaxPool2d, AcceptsAnEmptyBatch) {
  // Room for one image, whose numbers have to stay as they are.
  Array out({1, 1, 1, 4}, 7), in({1, 2, 2, 4}, 8);
  View no_out = out, no_in = in;
  no_out.shape = {0, 1, 1, 4};
  no_in.shape = {0, 2, 2, 4};
  Stream stream = Stream::cpu();
  launch(stream, MaxPool2d{no_out, no_in, 2, 2});
  launch(stream, MaxPool2dGrad{no_in, no_out, no_in, no_out, 2, 2});
  EXPECT_THAT(out.values, Each(7));
  EXPECT_THAT(in.values, Each(8));
}

TEST(MaxPool2d, NamesTheShapesThatDoNotFit) {
  Stream stream = Stream::cpu();
  const Array in({1, 4, 4, 2});
  Array out({1, 2, 2, 2}), wrong({1, 2, 3, 2}), d_in({1, 4, 4, 3});
  EXPECT_THAT(([&] {
                launch(stream, MaxPool2d{wrong, in, 2, 2});
              }),
              ThrowsMessage<Error>(HasSubstr("max_pool2d: expected an output of [1, 2, 2, 2]")));
  EXPECT_THAT(([&] {
                launch(stream, MaxPool2d{out, in, 5, 2});
              }),
              ThrowsMessage<Error>(HasSubstr("a window that fits the input")));
  EXPECT_THAT(([&] {
                launch(stream, MaxPool2d{out, in, 2, 0});
              }),
              ThrowsMessage<Error>(HasSubstr("a stride of at least 1")));
  EXPECT_THAT(([&] {
                launch(stream, MaxPool2dGrad{d_in, out, in, out, 2, 2});
              }),
              ThrowsMessage<Error>(HasSubstr("expected gradients of [1, 4, 4, 2]")));
}

}  // namespace
}  // namespace lockstep
