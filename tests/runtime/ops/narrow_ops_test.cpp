// SPDX-License-Identifier: Apache-2.0
// Products with bf16 and f16 weights: those of f32 on operands that were rounded first, forwards and backwards.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/device/transfer.h"
#include "runtime/ops/ops.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

// One pass of an op with a weight, on one device.
class Pass {
 public:
  using Op = Tensor (*)(Context&, const Tensor& x, const Tensor& weight, const Tensor& bias);

  // `narrow`: the weight is kept in this dtype. `rounds`: operands are f32, rounded to this dtype by the test.
  Pass(Device device, Op op, const Shape& x, const Shape& weight, DType narrow, DType rounds)
      : stream_(device.kind == DeviceKind::cpu ? Stream::cpu() : Stream::cuda(device.index)),
        pool_(device),
        context_(stream_, pool_, &tape_) {
    Tensor input = put(x, 1, rounds), kernel = put(weight, 2, rounds);
    Tensor bias = put({weight[weight.rank() - 1]}, 3, DType::f32);
    if (is_narrow(narrow)) kernel = as_dtype(context_, kernel, narrow);
    for (Tensor* each : {&input, &kernel, &bias}) {
      gradients_.emplace_back(pool_, DType::f32, each->shape());
      tape_.watch(*each, int32_t(gradients_.size()) - 1, gradients_.back());
    }
    const Tensor y = op(context_, input, kernel, bias);
    tape_.backward(context_, y, put(y.shape(), 4, DType::f32), nullptr);
    results_.push_back(get(y));
    for (const Tensor& gradient : gradients_) results_.push_back(get(gradient));
  }
  // The value and the gradients of x, weight and bias.
  const std::vector<std::vector<float>>& results() const { return results_; }

 private:
  Tensor put(const Shape& shape, uint32_t seed, DType rounded_to) {
    std::vector<float> values(size_t(shape.size()));
    std::mt19937 random(seed);
    for (float& x : values) x = float(random()) * 0x1p-31f - 1;
    Tensor tensor(pool_, DType::f32, shape);
    copy(stream_, View(tensor).data, values.data(), View(tensor).bytes());
    stream_.synchronize();
    return as_dtype(context_, as_dtype(context_, tensor, rounded_to), DType::f32);
  }
  std::vector<float> get(const Tensor& tensor) {
    EXPECT_EQ(tensor.dtype(), DType::f32);
    std::vector<float> values(size_t(tensor.size()));
    copy(stream_, values.data(), ConstView(tensor).data, ConstView(tensor).bytes());
    stream_.synchronize();
    return values;
  }

  Stream stream_;
  Pool pool_;
  Tape tape_;
  Context context_;
  std::vector<Tensor> gradients_;
  std::vector<std::vector<float>> results_;
};

struct Case {
  const char* name;
  Pass::Op op;
  Shape x, weight;
};
const Case kCases[] = {
    {"linear",
     [](Context& c, const Tensor& x, const Tensor& w, const Tensor& b) { return linear(c, x, w, b); },
     {9, 20},
     {20, 16}},
    {"linear_gelu",
     [](Context& c, const Tensor& x, const Tensor& w, const Tensor& b) { return linear_gelu(c, x, w, b); },
     {9, 20},
     {20, 16}},
    {"matmul",
     [](Context& c, const Tensor& x, const Tensor& w, const Tensor& b) { return linear(c, matmul(c, x, w), w, b); },
     {9, 16},
     {16, 16}},
    {"conv2d",
     [](Context& c, const Tensor& x, const Tensor& w, const Tensor& b) { return conv2d(c, x, w, b); },
     {3, 6, 5, 2},
     {3, 3, 2, 4}}};

// What rounding to the dtype moves a number by at most, relative to it.
double place_of(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : 0x1p-11; }

double relative_difference(const std::vector<float>& actual, const std::vector<float>& expected) {
  double norm = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    norm += std::pow(double(expected[i]), 2);
    difference += std::pow(double(expected[i]) - double(actual[i]), 2);
  }
  return std::sqrt(difference / norm);
}

// Values of products are those of f32 products of rounded operands, to the bit.
TEST(NarrowOps, ComputeInF32OnRoundedOperands) {
  for (const Case& each : kCases)
    for (const DType dtype : {DType::bf16, DType::f16}) {
      if (std::string(each.name) == "matmul") continue;  // its result is rounded before the second product
      const Pass narrow({}, each.op, each.x, each.weight, dtype, DType::f32);
      const Pass rounded({}, each.op, each.x, each.weight, DType::f32, dtype);
      EXPECT_EQ(narrow.results()[0], rounded.results()[0]) << each.name << " " << to_string(dtype);
      EXPECT_EQ(narrow.results()[3], rounded.results()[3]) << "gradients of biases are not rounded";
    }
}

// Gradients too, but that what comes from behind is rounded to the dtype.
TEST(NarrowOps, HaveTheGradientsOfF32WithinTheRoundingOfWhatComesFromBehind) {
  for (const Case& each : kCases)
    for (const DType dtype : {DType::bf16, DType::f16}) {
      const Pass narrow({}, each.op, each.x, each.weight, dtype, DType::f32);
      const Pass wide({}, each.op, each.x, each.weight, DType::f32, DType::f32);
      for (size_t r = 0; r < wide.results().size(); ++r) {
        const double difference = relative_difference(narrow.results()[r], wide.results()[r]);
        EXPECT_LT(difference, 4 * place_of(dtype)) << each.name << " result " << r;
        if (r < 3) {
          EXPECT_GT(difference, 0) << each.name << ": something was rounded, result " << r;
        }
      }
    }
}

TEST(NarrowOps, HaveTheSameBitsOnAGpuWhereProductsDo) {
  LOCKSTEP_NEEDS_GPU();
  for (const Case& each : kCases)
    for (const DType dtype : {DType::bf16, DType::f16}) {
      const Pass gpu({DeviceKind::cuda, 0}, each.op, each.x, each.weight, dtype, DType::f32);
      const Pass cpu({}, each.op, each.x, each.weight, dtype, DType::f32);
      const bool cut_alike = std::string(each.name) != "conv2d";  // which goes through other groups of images
      for (size_t r = 0; r < cpu.results().size(); ++r) {
        const std::string what = str(each.name, " ", to_string(dtype), " result ", r);
        if (products_have_equal_bits() && cut_alike) {
          EXPECT_EQ(gpu.results()[r], cpu.results()[r]) << what;
        }
        EXPECT_LE(relative_difference(gpu.results()[r], cpu.results()[r]), place_of(dtype)) << what;
      }
    }
}

}  // namespace
}  // namespace lockstep
