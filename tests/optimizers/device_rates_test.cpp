// SPDX-License-Identifier: Apache-2.0
// Rates and the counter of steps on a GPU: from the table, of one's own, in 64 bits.
#include <gtest/gtest.h>

#include <functional>

#include "tests/optimizers/device_variables.h"
#include "tests/optimizers/every_rule.h"
#include "tests/optimizers/same_bits.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

// Expects steps from counter `iteration` on at these rates, with the bits of the CPU.
void expect_steps_at(const std::vector<double>& expected_rates, int64_t iteration,
                     const std::function<LearningRates(DeviceMemory&)>& make_rates) {
  constexpr int64_t n = 37;
  Stream stream = Stream::cpu();
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make({{"weight_decay", 0.01}});
    FlatVariables cpu(*rule, eighths(n, 1));
    DeviceVariables gpu(*rule, cpu);
    gpu.memory().set(gpu.state().iteration, std::vector<int64_t>{iteration});
    const LearningRates rates = make_rates(gpu.memory());
    int64_t step = iteration;
    for (const double rate : expected_rates) {
      cpu.grad = eighths(n, uint32_t(++step - iteration));
      gpu.step(cpu.grad, rates);
      cpu.prepare(*rule, stream, step, rate);
      cpu.update_range(*rule, stream, 0, n);
      expect_same_bits(gpu.get(), cpu, str(variant.text(), " at step ", step));
      EXPECT_EQ(gpu.iteration(), step) << variant.text();
    }
  }
}

TEST(OptimizerOnAGpu, TakesTheRateOfTheStepFromTheTable) {
  LOCKSTEP_NEEDS_GPU();
  const std::vector<double> table = {0.5, 0.25, 0.125, 0.0625};
  expect_steps_at(table, 3, [&](DeviceMemory& memory) {
    return LearningRates{.values = memory.put(table), .first = 3, .count = 4};
  });
  expect_steps_at({0.125, 0.0625}, 5, [&](DeviceMemory& memory) {
    return LearningRates{.values = memory.put(table), .first = 3, .count = 4};
  });
}

TEST(OptimizerOnAGpu, TakesItsOwnRateOrAFactorOfTheRuns) {
  LOCKSTEP_NEEDS_GPU();
  const std::vector<double> table = {0.5, 0.25, 0.125};
  expect_steps_at({0.25, 0.125, 0.0625}, 0, [&](DeviceMemory& memory) {
    return LearningRates{.values = memory.put(table), .first = 0, .count = 3, .factor = 0.5};
  });
  expect_steps_at({0.75, 0.75, 0.75}, 0, [&](DeviceMemory& memory) {
    return LearningRates{.values = memory.put(table), .first = 0, .count = 3, .factor = 0.5, .own = 0.75};
  });
}

TEST(OptimizerOnAGpu, CountsIn64Bits) {
  LOCKSTEP_NEEDS_GPU();
  expect_steps_at({0.5, 0.5, 0.5}, (int64_t{1} << 40) - 1, [](DeviceMemory&) { return LearningRates{.own = 0.5}; });
}

TEST(OptimizerOnAGpu, LeavesCountingToAnotherOptimizerThatHasCounted) {
  LOCKSTEP_NEEDS_GPU();
  constexpr int64_t n = 37;
  const auto adam = make_optimizer("adam", {{"learning_rate", 0.25}});
  FlatVariables expected(*adam, eighths(n, 1));
  DeviceVariables gpu(*adam, expected);
  gpu.memory().set(gpu.state().iteration, std::vector<int64_t>{1});
  const LearningRates rates{.values = gpu.memory().put<double>({1, 2}), .first = 0, .count = 2, .counted = true};
  expected.grad = eighths(n, 2);
  gpu.step(expected.grad, rates);
  expected.update(*adam, 1);
  expect_same_bits(gpu.get(), expected, "adam");
  EXPECT_EQ(gpu.iteration(), 1);
  EXPECT_EQ(gpu.learning_rate(), 0.25);
}

}  // namespace
}  // namespace lockstep
