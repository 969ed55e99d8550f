// SPDX-License-Identifier: Apache-2.0
// A step in two launches on a GPU: the bits of the CPU, and what a step does besides its rule against gradients that
// the test itself scales, clips or leaves out.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/optimizers/device_variables.h"
#include "tests/optimizers/every_rule.h"
#include "tests/optimizers/same_bits.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::HasSubstr;

// Eighths in [-8, 8]: sums of their squares are exact in any order.
std::vector<float> eighths(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& x : values) x = float(int(random() % 129) - 64) / 8;
  return values;
}

TEST(OptimizerOnAGpu, TakesTheBitsOfTheCpu) {
  LOCKSTEP_NEEDS_GPU();
  for (const Variant& variant : every_variant())
    for (const int64_t n : {1, 3, 31, 33, 1000, 4099})
      for (const int64_t offset : {0, 1}) {
        const auto rule = variant.make();
        FlatVariables cpu(*rule, eighths(n, 1));
        DeviceVariables gpu(*rule, cpu, offset);
        for (int64_t step = 1; step <= 20; ++step) {
          cpu.grad = eighths(n, uint32_t(1 + step));
          gpu.step(cpu.grad);
          cpu.update(*rule, step);
        }
        expect_same_bits(gpu.get(), cpu, str(variant.text(), ", ", n, " elements, offset ", offset));
        EXPECT_EQ(gpu.iteration(), 20) << variant.text();
      }
}

}  // namespace
}  // namespace lockstep
