// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "kernels/matmul_cpu.h"
#include "kernels/pointwise.h"
#include "tests/kernels/arrays.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using testing_support::Array;
using testing_support::OnDevice;

struct Library {
  const char* name;
  MatmulLibrary calls;
  void multiply(Stream& stream, const Matmul& op) const {
    run_matmul(stream, op, calls, stream.scratch(matmul_scratch(stream, op, calls)));
  }
};

std::vector<Library> libraries() {
  std::vector<Library> all{{"Eigen", eigen::kMatmul}};
  if constexpr (config::onednn) all.push_back({"oneDNN", onednn::kMatmul});
  return all;
}

struct Case {
  int64_t m, n, k;
};
// Odd sizes, single rows and columns, squares (a product and its transposes have equal sizes), shapes of the models
// (whole batches and leaves), several blocks along each side.
const std::vector<Case> kCases = cases<Case>({{1, 1, 1},
                                              {3, 5, 7},
                                              {24, 24, 24},
                                              {17, 33, 9},
                                              {1, 100, 50},
                                              {100, 1, 50},
                                              {16, 512, 784},
                                              {128, 10, 512},
                                              {784, 512, 16},
                                              {12, 512, 784},
                                              {512, 10, 128},
                                              {300, 300, 1500},
                                              {515, 129, 131},
                                              {129, 515, 131},
                                              {9, 700, 2000}},
                                             5);

struct Operands {
  Array a, b, out;
  Matmul op(bool transpose_a, bool transpose_b, bool accumulate) {
    return {out, a, b, transpose_a, transpose_b, accumulate};
  }
};

Operands operands(const Case& c, bool transpose_a, bool transpose_b) {
  return {Array::random(transpose_a ? Shape{c.k, c.m} : Shape{c.m, c.k}, 1),
          Array::random(transpose_b ? Shape{c.n, c.k} : Shape{c.k, c.n}, 2), Array::random({c.m, c.n}, 3)};
}

// Largest |error| over what rounding may do: k products and sums of numbers about one.
double worst_error(const Case& c, const Operands& x, const Array& before, bool ta, bool tb, bool accumulate) {
  double worst = 0;
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = accumulate ? before[i * c.n + j] : 0, size = std::abs(sum) + 1e-30;
      for (int64_t p = 0; p < c.k; ++p) {
        const double term = double(x.a[ta ? p * c.m + i : i * c.k + p]) * x.b[tb ? j * c.k + p : p * c.n + j];
        sum += term;
        size += std::abs(term);
      }
      worst = std::max(worst, std::abs(x.out[i * c.n + j] - sum) / size);
    }
  return worst;
}

TEST(Matmul, MatchesADoubleReferenceForEveryLibraryTransposeAndAccumulation) {
  Stream stream = Stream::cpu();
  for (const Library& library : libraries())
    for (const Case& c : kCases)
      for (int flags = 0; flags < 8; ++flags) {
        const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4;
        Operands x = operands(c, ta, tb);
        const Array before = x.out;
        library.multiply(stream, x.op(ta, tb, accumulate));
        EXPECT_LT(worst_error(c, x, before, ta, tb, accumulate), 1e-6)
            << library.name << " " << c.m << " x " << c.n << " x " << c.k << " flags " << flags;
      }
}

TEST(Matmul, OnAGpuMatchesTheReferenceAndTheBitsOfTheCpuWhereItHasThem) {
  LOCKSTEP_NEEDS_GPU();
  Stream cpu = Stream::cpu(), stream = Stream::cuda(0);
  Pool pool(stream.device());
  for (const Case& c : kCases)
    for (int flags = 0; flags < 8; ++flags) {
      const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4;
      Operands x = operands(c, ta, tb);
      const Array before = x.out;
      const OnDevice a(stream, pool, x.a), b(stream, pool, x.b), out(stream, pool, x.out);
      launch(cpu, x.op(ta, tb, accumulate));
      launch(stream, Matmul{out, a, b, ta, tb, accumulate});
      const std::string what = str(c.m, " x ", c.n, " x ", c.k, " flags ", flags);
      if (products_have_equal_bits()) {
        EXPECT_EQ(out.values(), x.out.values) << what;
      }
      x.out.values = out.values();
      EXPECT_LT(worst_error(c, x, before, ta, tb, accumulate), 1e-6) << what;
    }
}

TEST(Matmul, IsExactOnSmallIntegers) {
  const Array a({2, 3}, {1, 2, 3, 4, 5, 6}), b({3, 2}, {1, 0, 2, 1, 0, 3});
  Array out({2, 2}, 100);
  Stream stream = Stream::cpu();
  launch(stream, Matmul{.out = out, .a = a, .b = b});
  EXPECT_THAT(out.values, testing::ElementsAre(5, 11, 14, 23));
  launch(stream, Matmul{.out = out, .a = a, .b = b, .accumulate = true});
  EXPECT_THAT(out.values, testing::ElementsAre(10, 22, 28, 46));
}

TEST(Matmul, HasTheSameBitsForAnyNumberOfThreads) {
  for (const Library& library : libraries())
    for (const Case& c : kCases)
      for (int flags = 0; flags < 4; ++flags) {
        Operands x = operands(c, flags & 1, flags & 2);
        Stream one = Stream::cpu(1);
        library.multiply(one, x.op(flags & 1, flags & 2, false));
        const Array expected = x.out;
        for (int threads : {2, 3}) {
          Stream many = Stream::cpu(threads);
          std::fill(x.out.values.begin(), x.out.values.end(), 0.0f);
          library.multiply(many, x.op(flags & 1, flags & 2, false));
          EXPECT_EQ(x.out.values, expected.values)
              << library.name << " " << c.m << " x " << c.n << " x " << c.k << " flags " << flags << ", " << threads;
        }
      }
}

TEST(Matmul, ReadsAndWritesNothingOutsideItsOperands) {
  // Neighbours of every operand are NaN: read, they would spoil the result; written, they would change.
  const Case c{37, 70, 29};
  const int64_t margin = 64;
  Operands x = operands(c, true, false);
  const auto framed = [&](const Array& inner) {
    Array frame({inner.shape.size() + 2 * margin}, std::nanf(""));
    std::copy(inner.values.begin(), inner.values.end(), frame.values.begin() + margin);
    return frame;
  };
  for (const Library& library : libraries()) {
    Stream stream = Stream::cpu();
    library.multiply(stream, x.op(true, false, false));
    Array a = framed(x.a), b = framed(x.b), out = framed(Array(x.out.shape));
    const auto inside = [&](Array& frame, const Shape& shape) {
      return View{frame.values.data() + margin, DType::f32, DeviceKind::cpu, shape};
    };
    library.multiply(stream, {inside(out, x.out.shape), inside(a, x.a.shape), inside(b, x.b.shape), true});
    for (int64_t i = 0; i < out.shape.size(); ++i) {
      if (i < margin || i >= out.shape.size() - margin) {
        EXPECT_TRUE(std::isnan(out[i])) << library.name << " wrote at " << i - margin;
      } else {
        EXPECT_FLOAT_EQ(out[i], x.out[i - margin]) << library.name;
      }
    }
  }
}

TEST(Matmul, OfNothingIsZeroAndKeepsWhatItAccumulatesOn) {
  Stream stream = Stream::cpu();
  const Array a({2, 0}), b({0, 3});
  Array out({2, 3}, 7);
  launch(stream, Matmul{.out = out, .a = a, .b = b, .accumulate = true});
  EXPECT_THAT(out.values, testing::Each(7));
  launch(stream, Matmul{.out = out, .a = a, .b = b});
  EXPECT_THAT(out.values, testing::Each(0));
  Array no_rows({0, 3}), no_columns({2, 0});
  launch(stream, Matmul{.out = no_rows, .a = Array({0, 4}), .b = Array({4, 3})});
  launch(stream, Matmul{.out = no_columns, .a = Array({2, 4}), .b = Array({4, 0})});
}

TEST(Matmul, LeavesTheCallersNumberOfOpenMpThreadsAlone) {
  omp_set_num_threads(3);
  Operands x = operands({64, 64, 64}, false, false);
  Stream stream = Stream::cpu();
  launch(stream, x.op(false, false, false));
  EXPECT_EQ(omp_get_max_threads(), 3);
}

TEST(Matmul, NamesTheShapesThatDoNotFit) {
  Stream stream = Stream::cpu();
  const Array a({2, 3}), b({4, 5});
  Array out({2, 5});
  const auto product = [&](bool transpose_a) {
    return [&, transpose_a] { launch(stream, Matmul{.out = out, .a = a, .b = b, .transpose_a = transpose_a}); };
  };
  EXPECT_THAT(product(false), ThrowsMessage<Error>(HasSubstr("got out [2, 5], a [2, 3], b [4, 5]")));
  EXPECT_THAT(product(true), ThrowsMessage<Error>(HasSubstr("a [2, 3] transposed")));
  EXPECT_THAT(([&] { launch(stream, Matmul{.out = out, .a = Array({6}), .b = b}); }),
              ThrowsMessage<Error>(HasSubstr("2 dimensions, got [6]")));
  EXPECT_THAT(([&] {
                launch(stream, Matmul{.out = Array({2, 6}), .a = a, .b = Array({3, 5})});
              }),
              ThrowsMessage<Error>(HasSubstr("expected [2, 5]")));
  ConstView half = a;
  half.dtype = DType::bf16;
  EXPECT_THAT(([&] { launch(stream, Matmul{.out = out, .a = half, .b = b}); }),
              ThrowsMessage<Error>(
                  HasSubstr("two of bf16 or of f16 and a result of f32 or their own dtype, got a bf16, b f32")));
}

// What a product ends with, of narrow operands or f32 ones.
struct Finish {
  bool bias;
  Activation activation;
  DType in, out;
};
const std::vector<Finish> kFinishes = {
    {true, Activation::none, DType::f32, DType::f32},    {false, Activation::relu, DType::f32, DType::f32},
    {true, Activation::relu, DType::f32, DType::f32},    {true, Activation::gelu, DType::f32, DType::f32},
    {false, Activation::gelu, DType::f32, DType::f32},   {false, Activation::none, DType::bf16, DType::f32},
    {true, Activation::relu, DType::bf16, DType::f32},   {true, Activation::gelu, DType::bf16, DType::f32},
    {false, Activation::none, DType::bf16, DType::bf16}, {true, Activation::relu, DType::bf16, DType::bf16},
    {true, Activation::gelu, DType::f16, DType::f32},    {true, Activation::relu, DType::f16, DType::f16}};

// An array in one of both dtypes, on a device.
class Operand {
 public:
  Operand(Stream& stream, Pool& pool, const Array& array, DType dtype)
      : memory_(pool, std::max<int64_t>(1, array.shape.size()) * size_of(dtype), Purpose::data),
        view_(memory_.view(dtype, array.shape)) {
    const OnDevice wide(stream, pool, array);
    launch(stream, Copy{view_, wide});
    stream.synchronize();
  }
  const View& view() const { return view_; }
  Array values(Stream& stream, Pool& pool) const {
    const OnDevice wide(stream, pool, Array(view_.shape));
    launch(stream, Copy{wide, view_});
    return {view_.shape, wide.values()};
  }

 private:
  Buffer memory_;
  View view_;
};

struct Finished {
  Array out, before;
};

Finished run_finish(Stream& stream, const Case& c, const Finish& finish, bool ta, bool tb, bool accumulate) {
  Pool pool(stream.device());
  Operands x = operands(c, ta, tb);
  const Operand a(stream, pool, x.a, finish.in), b(stream, pool, x.b, finish.in), out(stream, pool, x.out, finish.out);
  const Operand bias(stream, pool, Array::random({c.n}, 4), finish.out),
      before(stream, pool, Array(x.out.shape), DType::f32);
  Matmul op{
      .out = out.view(), .a = a.view(), .b = b.view(), .transpose_a = ta, .transpose_b = tb, .accumulate = accumulate};
  if (finish.bias) op.bias = bias.view();
  op.activation = finish.activation;
  if (finish.activation == Activation::gelu) op.before = before.view();
  launch(stream, op);
  return {out.values(stream, pool), before.values(stream, pool)};
}

float rounded(float x, DType dtype) {
  if (dtype == DType::bf16) return float(bfloat16(x));
  return dtype == DType::f16 ? float(float16(x)) : x;
}

void expect_finish(const Case& c, const Finish& finish, bool ta, bool tb, bool accumulate, const Finished& actual) {
  const Operands x = operands(c, ta, tb);
  const Array bias = Array::random({c.n}, 4);
  // One rounding at the end; sums in f32.
  const double tolerance = is_narrow(finish.out) ? 0x1p-8 : 1e-5;
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.n; ++j) {
      double z = accumulate ? rounded(x.out[i * c.n + j], finish.out) : 0, size = std::abs(z) + 1;
      for (int64_t p = 0; p < c.k; ++p) {
        const double term = double(rounded(x.a[ta ? p * c.m + i : i * c.k + p], finish.in)) *
                            rounded(x.b[tb ? j * c.k + p : p * c.n + j], finish.in);
        z += term;
        size += std::abs(term);
      }
      if (finish.bias) z += rounded(bias[j], finish.out);
      double y = z;
      if (finish.activation == Activation::relu) y = std::max(0.0, z);
      if (finish.activation == Activation::gelu)
        y = 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
      ASSERT_NEAR(actual.out[i * c.n + j], y, tolerance * std::max(std::abs(y), 0.01 * size)) << i << " " << j;
      if (finish.activation == Activation::gelu) {
        ASSERT_NEAR(actual.before[i * c.n + j], z, 1e-6 * size) << i << " " << j;
      }
    }
}

const std::vector<Case> kFinishCases{{1, 1, 1}, {3, 5, 7}, {17, 33, 9}, {16, 512, 84}, {129, 515, 31}, {40, 16, 8}};

TEST(Matmul, AddsABiasActivatesAndTakesNarrowOperands) {
  Stream stream = Stream::cpu();
  for (const Case& c : kFinishCases)
    for (size_t f = 0; f < kFinishes.size(); ++f)
      for (int flags = 0; flags < 8; ++flags) {
        const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4;
        SCOPED_TRACE(str(c.m, " x ", c.n, " x ", c.k, " flags ", flags, " finish ", f));
        const Finished one = run_finish(stream, c, kFinishes[f], ta, tb, accumulate);
        expect_finish(c, kFinishes[f], ta, tb, accumulate, one);
        Stream many = Stream::cpu(3);
        EXPECT_EQ(run_finish(many, c, kFinishes[f], ta, tb, accumulate).out.values, one.out.values);
      }
}

TEST(Matmul, AddsABiasActivatesAndTakesBf16OnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  Stream cpu = Stream::cpu(), stream = Stream::cuda(0);
  for (const Case& c : kFinishCases)
    for (size_t f = 0; f < kFinishes.size(); ++f)
      for (int flags = 0; flags < 8; ++flags) {
        const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4;
        SCOPED_TRACE(str(c.m, " x ", c.n, " x ", c.k, " flags ", flags, " finish ", f));
        const Finished gpu = run_finish(stream, c, kFinishes[f], ta, tb, accumulate);
        expect_finish(c, kFinishes[f], ta, tb, accumulate, gpu);
        if (!products_have_equal_bits()) continue;
        const Finished expected = run_finish(cpu, c, kFinishes[f], ta, tb, accumulate);
        EXPECT_EQ(gpu.out.values, expected.out.values);
        EXPECT_EQ(gpu.before.values, expected.before.values);
      }
}

// The library tells nobody which epilogues it has no algorithm for: each of its ways to say so leads to kernels of
// ours.
TEST(Matmul, FinishesProductsItselfWhereTheLibraryOfAGpuCannot) {
  if (!gpu_is_emulated()) GTEST_SKIP() << "needs the stand-in for cuBLASLt, which refuses on demand";
  for (const char* refusal : {"unsupported", "none_found", "bad_state"}) {
    setenv("LOCKSTEP_EMULATED_EPILOGUES", refusal, 1);
    Stream cpu = Stream::cpu(), stream = Stream::cuda(0);
    for (const Case& c : {Case{1, 1, 1}, Case{17, 33, 9}, Case{40, 16, 8}})
      for (size_t f = 0; f < kFinishes.size(); ++f)
        for (const bool accumulate : {false, true}) {
          if (is_narrow(kFinishes[f].out)) continue;  // rounded twice
          SCOPED_TRACE(str(refusal, ", ", c.m, " x ", c.n, " x ", c.k, " finish ", f, " accumulate ", accumulate));
          const Finished gpu = run_finish(stream, c, kFinishes[f], false, true, accumulate);
          expect_finish(c, kFinishes[f], false, true, accumulate, gpu);
          if (!products_have_equal_bits()) continue;
          EXPECT_EQ(gpu.out.values, run_finish(cpu, c, kFinishes[f], false, true, accumulate).out.values);
        }
    unsetenv("LOCKSTEP_EMULATED_EPILOGUES");
  }
}

TEST(Matmul, AddsTheBiasOfItsOwnCallAlsoWhereItIsNotAligned) {
  LOCKSTEP_NEEDS_GPU();
  Stream stream = Stream::cuda(0);
  Pool pool(stream.device());
  const OnDevice a(stream, pool, Array({2, 1}, 0)), b(stream, pool, Array({1, 3}, 0)), out(stream, pool, Array({2, 3}));
  const OnDevice biases(stream, pool, Array({8}, {0, 1, 2, 3, 4, 5, 6, 7}));
  for (const int64_t first : {0, 1, 4, 5}) {
    launch(stream, Matmul{.out = out, .a = a, .b = b, .bias = slice(ConstView(biases), first, first + 3)});
    const auto at = float(first);
    EXPECT_THAT(out.values(), testing::ElementsAre(at, at + 1, at + 2, at, at + 1, at + 2));
  }
}

TEST(Matmul, NamesABiasAndAGeluThatDoNotFit) {
  Stream stream = Stream::cpu();
  const Array a({2, 3}), b({3, 4}), none({2, 0}), nothing({0, 4});
  Array out({2, 4}), before({4, 2});
  const auto expect = [&](const Matmul& op, const char* text) {
    EXPECT_THAT(([&] { launch(stream, op); }), ThrowsMessage<Error>(HasSubstr(text)));
  };
  expect({.out = out, .a = a, .b = b, .bias = Array({3})}, "expected a bias of [4] and dtype f32, got [3]");
  expect({.out = out, .a = a, .b = b, .activation = Activation::gelu}, "keeps what it was taken of");
  expect({.out = out, .a = a, .b = b, .activation = Activation::gelu, .before = before}, "got f32 [4, 2]");
  expect({.out = out, .a = a, .b = b, .activation = Activation::relu, .before = out}, "gelu, and nothing else");
  expect({.out = out, .a = none, .b = nothing, .bias = Array({4})}, "inner dimension of at least 1");
}

TEST(Matmul, NamesItsLibrary) { EXPECT_THAT(matmul_library(), HasSubstr(config::onednn ? "oneDNN " : "Eigen ")); }

}  // namespace
}  // namespace lockstep
