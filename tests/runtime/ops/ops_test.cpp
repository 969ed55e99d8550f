// SPDX-License-Identifier: Apache-2.0
// Every line of tools/bench/ops/op_cases.cpp: the value against double arithmetic, every gradient against central
// differences.
#include "runtime/ops/ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "kernels/device/transfer.h"
#include "runtime/ops/language.h"
#include "tests/support/devices.h"
#include "tools/bench/ops/op_cases.h"

namespace lockstep {
namespace {

constexpr uint64_t kSeed = 20261122;

std::vector<double> doubles(Stream& stream, const ConstView& view) {
  PinnedBuffer host(stream.device(), view.bytes());
  const View values = host.view(view.dtype, view.shape);
  copy(stream, values, view);
  stream.synchronize();
  std::vector<double> result;
  if (view.dtype == DType::i32) return {data<int32_t>(values), data<int32_t>(values) + view.size()};
  dispatch_float(view.dtype, [&]<class T>(TypeTag<T>) {
    for (int64_t i = 0; i < view.size(); ++i) result.push_back(double(float(data<T>(values)[i])));
  });
  return result;
}

double greatest(const std::vector<double>& values) {
  double peak = 1e-3;  // below it an absolute error counts
  for (const double v : values) peak = std::max(peak, std::abs(v));
  return peak;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  const double bound = tolerance * greatest(expected);
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], bound) << what << ", element " << i;
}

// A pass of one case over its small inputs, recorded.
class Pass {
 public:
  // `widens`: everything is f32, though the values are those of the case.
  explicit Pass(const OpCase& op, Stream stream = Stream::cpu(), bool widens = false)
      : op_(op), stream_(std::move(stream)), pool_(stream_.device()), context_(stream_, pool_, &tape_) {
    if (!widens) context_.set_activations(op.activations);
    inputs_ = random_inputs(stream_, pool_, op.inputs, kSeed);
    for (Tensor& input : inputs_)
      if (widens && is_narrow(input.dtype())) input = as_dtype(context_, input, DType::f32);
    sample_ids_ = set_sample_ids(context_, ids_, op.inputs[0].shape[0]);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      gradients_.emplace_back(pool_, widens ? DType::f32 : op.inputs[i].gradient, inputs_[i].shape());
      if (op.inputs[i].differentiable) tape_.watch(inputs_[i], int32_t(i), gradients_[i]);
    }
    output_ = op.run(context_, inputs_);
  }

  std::vector<double> output() { return doubles(stream_, output_); }
  const Shape& output_shape() const { return output_.shape(); }
  // Differentiates the sum of the output's elements, each times f(its number), rounded as the output is; returns these
  // weights.
  std::vector<double> backward(double (*f)(double)) {
    std::vector<float> values;
    for (int64_t i = 0; i < output_.size(); ++i) values.push_back(float(f(double(i))));
    Tensor seed(pool_, DType::f32, output_.shape());
    copy(stream_, seed, ConstView{values.data(), DType::f32, DeviceKind::cpu, output_.shape()});
    stream_.synchronize();
    seed = as_dtype(context_, as_dtype(context_, seed, op_.activations), output_.dtype());
    tape_.backward(context_, output_, seed, nullptr);
    return doubles(stream_, seed);
  }
  std::vector<double> gradient(size_t input) { return doubles(stream_, gradients_[input]); }
  std::vector<DoubleTensor> reference_inputs() {
    std::vector<DoubleTensor> tensors;
    for (const Tensor& input : inputs_) tensors.push_back({input.shape(), doubles(stream_, input)});
    return tensors;
  }

 private:
  const OpCase& op_;
  Stream stream_;
  Pool pool_;
  Tape tape_;
  Context context_;
  std::vector<int64_t> ids_;
  Tensor sample_ids_;
  std::vector<Tensor> inputs_, gradients_;
  Tensor output_;
};

class EveryOp : public testing::TestWithParam<OpCase> {};

void expect_value_of_reference(const OpCase& op, Stream stream) {
  Pass pass(op, std::move(stream));
  const DoubleTensor expected = op.reference(pass.reference_inputs());
  EXPECT_EQ(pass.output_shape(), expected.shape);
  expect_near(pass.output(), expected.values, op.tolerance, "value");
}

void expect_gradients_of_central_differences(const OpCase& op, Stream stream) {
  Pass pass(op, std::move(stream));
  // Random weights make one scalar of the output, so that all its elements count.
  const std::vector<double> weights = pass.backward([](double i) { return std::sin(1.0 + i * 0.7); });
  std::vector<DoubleTensor> inputs = pass.reference_inputs();
  const auto loss = [&] {
    const DoubleTensor output = op.reference(inputs);
    double sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * output.values[i];
    return sum;
  };
  for (size_t t = 0; t < inputs.size(); ++t) {
    if (!op.inputs[t].differentiable) continue;
    std::vector<double> expected;
    for (double& x : inputs[t].values) {
      constexpr double h = 1e-5;
      const double keep = x;
      x = keep + h;
      const double up = loss();
      x = keep - h;
      const double down = loss();
      x = keep;
      expected.push_back((up - down) / (2 * h));
    }
    // Differences in double with h = 1e-5 are good to about 1e-9.
    expect_near(pass.gradient(t), expected, 4 * op.tolerance + 1e-6, "gradient of input " + std::to_string(t));
  }
}

// With a tolerance of 0: the same bits.
void expect_same(const OpCase& op, Pass& a, Pass& b, double tolerance = 0) {
  expect_near(a.output(), b.output(), tolerance, "value");
  a.backward([](double i) { return std::cos(i); });
  b.backward([](double i) { return std::cos(i); });
  for (size_t t = 0; t < op.inputs.size(); ++t) {
    if (!op.inputs[t].differentiable) continue;
    expect_near(a.gradient(t), b.gradient(t), 4 * tolerance, "gradient of input " + std::to_string(t));
  }
}

TEST_P(EveryOp, HasTheValueOfTheReference) { expect_value_of_reference(GetParam(), Stream::cpu()); }
TEST_P(EveryOp, HasTheGradientsOfCentralDifferences) {
  expect_gradients_of_central_differences(GetParam(), Stream::cpu());
}

TEST_P(EveryOp, GivesTheSameBitsOnThreeThreads) {
  Pass one(GetParam()), three(GetParam(), Stream::cpu(3));
  expect_same(GetParam(), one, three);
}

TEST_P(EveryOp, HasTheValueOfTheReferenceOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  expect_value_of_reference(GetParam(), Stream::cuda(0));
}

TEST_P(EveryOp, HasTheGradientsOfCentralDifferencesOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  expect_gradients_of_central_differences(GetParam(), Stream::cuda(0));
}

// Products of a library add in an order of its own, and everything that is made of them differs with them.
bool has_products(const OpCase& op) {
  static const std::set<std::string> products{"matmul", "matmul_transposed", "linear", "linear_gelu",
                                              "conv2d", "token_loss"};
  return products.contains(op.op);
}

TEST_P(EveryOp, HasTheBitsOfTheCpuOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  Pass cpu(GetParam()), gpu(GetParam(), Stream::cuda(0));
  const bool equal = products_have_equal_bits() || !has_products(GetParam());
  expect_same(GetParam(), gpu, cpu, equal ? 0 : 2 * GetParam().tolerance);
}

std::vector<double> rounded_to_bf16(std::vector<double> values) {
  for (double& x : values) x = double(float(bfloat16(float(x))));
  return values;
}

// All that an op computes in between is f32.
TEST(OpsInBf16, RoundOnceWhatTheyComputeInF32) {
  // These keep something rounded on their way to the result, or from it.
  const std::set<std::string> rounding_inside{"linear_gelu", "recompute", "add_layer_norm", "add_rms_norm"};
  const std::set<std::string> keeping_rounded{"linear_gelu", "recompute", "causal_attention", "token_loss"};
  std::set<std::string> exact;
  for (const OpCase& op : op_cases()) {
    if (op.activations == DType::f32) continue;
    Pass narrow(op), wide(op, Stream::cpu(), true);
    if (rounding_inside.contains(op.op)) continue;
    const bool loss = op.op == "token_loss";
    EXPECT_EQ(narrow.output(), loss ? wide.output() : rounded_to_bf16(wide.output())) << op.op << " " << op.note;
    if (keeping_rounded.contains(op.op)) continue;
    exact.insert(op.op);
    EXPECT_EQ(narrow.backward([](double i) { return std::cos(i); }),
              wide.backward([](double i) { return std::cos(i); }));
    for (size_t t = 0; t < op.inputs.size(); ++t) {
      if (!op.inputs[t].differentiable) continue;
      const bool rounds = op.inputs[t].gradient == DType::bf16;
      EXPECT_EQ(narrow.gradient(t), rounds ? rounded_to_bf16(wide.gradient(t)) : wide.gradient(t))
          << op.op << " " << op.note << ", gradient of input " << t;
    }
  }
  EXPECT_EQ(exact.size(), 12u);
}

// Weights in f32 are rounded to bf16 by the products that meet activations in bf16.
TEST(OpsInBf16, TakeWeightsOfF32AsTheyTakeRoundedOnes) {
  int compared = 0;
  for (const OpCase& op : op_cases()) {
    if (op.activations == DType::f32) continue;
    OpCase rounded = op, whole = op;
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      if (op.inputs[i].dtype != DType::bf16 || op.inputs[i].gradient == DType::bf16) continue;
      whole.inputs[i].dtype = DType::f32;
      ++compared;
    }
    Pass a(rounded), b(whole);
    expect_same(op, a, b);
  }
  EXPECT_EQ(compared, 10) << "matrices and biases";
}

std::string case_name(const testing::TestParamInfo<OpCase>& info) {
  std::string name = info.param.op + "_" + info.param.note;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Ops, EveryOp, testing::ValuesIn(op_cases()), case_name);

TEST(OpCases, CoverEveryOpThatTheHeadersDeclare) {
  std::set<std::string> covered, declared;
  for (const OpCase& op : op_cases()) covered.insert(op.op);
  const std::string takes = "(Call call,";
  for (const std::string file : {"ops.h", "language.h"}) {
    std::ifstream header(LOCKSTEP_SOURCE_DIR "/runtime/ops/" + file);
    ASSERT_TRUE(header) << file;
    for (std::string line; std::getline(header, line);) {
      const size_t end = line.find(takes);
      for (const std::string returns : {"Tensor ", "SumAndNorm "})
        if (line.starts_with(returns) && end != std::string::npos)
          declared.insert(line.substr(returns.size(), end - returns.size()));
    }
  }
  EXPECT_GE(declared.size(), 30u);
  EXPECT_EQ(declared, covered) << "every op of runtime/ops needs a line in tools/bench/ops, and the reverse";
}

// A residual's sum and its norm in one pass: what two ops give, to the bit.
TEST(OpsInOnePass, SumsAndNormsHaveTheBitsOfTwoOps) {
  int compared = 0;
  for (const OpCase& op : op_cases()) {
    if (op.op != "add_layer_norm" && op.op != "add_rms_norm") continue;
    OpCase two = op;
    two.run = [](Context& c, const std::vector<Tensor>& x) {
      const Tensor sum = add(c, x[0], x[1]);
      return multiply(c, sum, x.size() == 4 ? layer_norm(c, sum, x[2], x[3]) : rms_norm(c, sum, x[2]));
    };
    Pass fused(op), apart(two);
    EXPECT_EQ(fused.output(), apart.output()) << op.op << " " << op.note;
    const auto weight = [](double i) { return std::cos(i); };
    fused.backward(weight);
    apart.backward(weight);
    for (size_t i = 0; i < op.inputs.size(); ++i)
      EXPECT_EQ(fused.gradient(i), apart.gradient(i)) << op.op << " " << op.note << ", input " << i;
    ++compared;
  }
  EXPECT_EQ(compared, 4) << "two ops, in f32 and bf16";
}

}  // namespace
}  // namespace lockstep
