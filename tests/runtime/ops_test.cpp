// SPDX-License-Identifier: Apache-2.0
// Every line of tools/op_cases.cpp: the value against double arithmetic, every gradient against central differences.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "tools/op_cases.h"

namespace lockstep {
namespace {

constexpr uint64_t kSeed = 20261122;

std::vector<double> doubles(const ConstView& view) {
  std::vector<double> values;
  for (int64_t i = 0; i < view.size(); ++i)
    values.push_back(view.dtype == DType::i32 ? double(data<int32_t>(view)[i]) : double(data<float>(view)[i]));
  return values;
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
  explicit Pass(const OpCase& op, int threads = 1)
      : op_(op), stream_(Stream::cpu(threads)), pool_({}), context_(stream_, pool_, &tape_) {
    inputs_ = random_inputs(pool_, op.inputs, kSeed);
    set_sample_ids(context_, ids_, op.inputs[0].shape[0]);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      gradients_.emplace_back(pool_, DType::f32, inputs_[i].shape());
      if (op.inputs[i].differentiable) tape_.watch(inputs_[i], int32_t(i), gradients_[i]);
    }
    output_ = op.run(context_, inputs_);
  }

  std::vector<double> output() const { return doubles(output_); }
  const Shape& output_shape() const { return output_.shape(); }
  void backward(const std::vector<double>& weights) {
    Tensor seed(pool_, DType::f32, output_.shape());
    for (int64_t i = 0; i < seed.size(); ++i) data<float>(View(seed))[i] = float(weights[size_t(i)]);
    tape_.backward(context_, output_, seed, nullptr);
  }
  std::vector<double> gradient(size_t input) const { return doubles(gradients_[input]); }
  std::vector<DoubleTensor> reference_inputs() const {
    std::vector<DoubleTensor> tensors;
    for (const Tensor& input : inputs_) tensors.push_back({input.shape(), doubles(input)});
    return tensors;
  }

 private:
  const OpCase& op_;
  Stream stream_;
  Pool pool_;
  Tape tape_;
  Context context_;
  std::vector<int64_t> ids_;
  std::vector<Tensor> inputs_, gradients_;
  Tensor output_;
};

class EveryOp : public testing::TestWithParam<OpCase> {};

TEST_P(EveryOp, HasTheValueOfTheReference) {
  const Pass pass(GetParam());
  const DoubleTensor expected = GetParam().reference(pass.reference_inputs());
  EXPECT_EQ(pass.output_shape(), expected.shape);
  expect_near(pass.output(), expected.values, GetParam().tolerance, "value");
}

TEST_P(EveryOp, HasTheGradientsOfCentralDifferences) {
  const OpCase& op = GetParam();
  Pass pass(op);
  // Random weights make one scalar of the output, so that all its elements count.
  std::vector<double> weights;
  for (size_t i = 0; i < pass.output().size(); ++i) weights.push_back(std::sin(1.0 + double(i) * 0.7));
  pass.backward(weights);
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

TEST_P(EveryOp, GivesTheSameBitsOnThreeThreads) {
  Pass one(GetParam(), 1), three(GetParam(), 3);
  EXPECT_EQ(one.output(), three.output());
  const std::vector<double> weights(one.output().size(), 1.0);
  one.backward(weights);
  three.backward(weights);
  for (size_t t = 0; t < GetParam().inputs.size(); ++t) {
    if (!GetParam().inputs[t].differentiable) continue;
    EXPECT_EQ(one.gradient(t), three.gradient(t));
  }
}

std::string case_name(const testing::TestParamInfo<OpCase>& info) {
  std::string name = info.param.op + "_" + info.param.note;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Ops, EveryOp, testing::ValuesIn(op_cases()), case_name);

TEST(OpCases, CoverEveryOpThatTheHeaderDeclares) {
  std::ifstream header(LOCKSTEP_SOURCE_DIR "/runtime/ops.h");
  ASSERT_TRUE(header) << "runtime/ops.h";
  std::set<std::string> covered, declared;
  for (const OpCase& op : op_cases()) covered.insert(op.op);
  const std::string returns = "Tensor ", takes = "(Call call,";
  for (std::string line; std::getline(header, line);) {
    const size_t end = line.find(takes);
    if (line.starts_with(returns) && end != std::string::npos)
      declared.insert(line.substr(returns.size(), end - returns.size()));
  }
  EXPECT_GE(declared.size(), 15u);
  EXPECT_EQ(declared, covered) << "every op of runtime/ops.h needs a line in tools/op_cases.cpp, and the reverse";
}

}  // namespace
}  // namespace lockstep
