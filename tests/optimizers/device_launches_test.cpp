// SPDX-License-Identifier: Apache-2.0
// A step takes two launches, whatever the number of tensors. Only the emulated device counts them.
#include <gtest/gtest.h>

#include "tests/cuda_emulation/emulation.h"
#include "tests/optimizers/device_variables.h"
#include "tests/optimizers/every_rule.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

// What `body` adds to the counters.
template <class Body>
cuda_emulation::Counters counted(const Body& body) {
  const cuda_emulation::Counters before = cuda_emulation::counters();
  body();
  const cuda_emulation::Counters& after = cuda_emulation::counters();
  return {.launches = after.launches - before.launches,
          .graph_launches = after.graph_launches - before.graph_launches,
          .synchronizations = after.synchronizations - before.synchronizations};
}

void expect_two_launches(const Variant& variant, size_t tensors) {
  const auto rule = variant.make();
  DeviceVariables gpu(*rule, FlatVariables(*rule, std::vector<float>(64 * tensors, 0.5f)));
  DecisionTables tables(gpu.memory(), std::vector<int64_t>(tensors, 64), gpu.state().decision);
  tables.verdict.clip = ClipKind::each_variable;
  tables.verdict.limit = 1;
  gpu.set_granules(tables.granule_map());
  gpu.add_working_copy();
  gpu.set_gradient(std::vector<float>(64 * tensors, 2));
  tables.set_squares(std::vector<double>(tensors, 64 * 2 * 2));  // to measure takes a block a tensor, and time
  const cuda_emulation::Counters prepare = counted([&] { gpu.prepare({}, &tables.verdict); });
  const cuda_emulation::Counters update = counted([&] { gpu.update(); });
  EXPECT_EQ(prepare.launches, 1) << variant.text();
  EXPECT_EQ(update.launches, 1) << variant.text();
  EXPECT_EQ(prepare.synchronizations + update.synchronizations, 0) << variant.text();
  // All of it was done: norms of 16 were brought to 1.
  FlatVariables element(*rule, {0.5f});
  element.grad = {2.0f / 16};
  element.update(*rule, 1);
  const FlatVariables after = gpu.get();
  EXPECT_EQ(after.param, std::vector<float>(64 * tensors, element.param[0])) << variant.text();
  EXPECT_EQ(after.grad, std::vector<float>(64 * tensors)) << variant.text();
}

TEST(OptimizerOnAGpu, TakesTwoLaunchesForOneTensor) {
  LOCKSTEP_NEEDS_GPU();
  for (const Variant& variant : every_variant()) expect_two_launches(variant, 1);
}

TEST(OptimizerOnAGpu, TakesTwoLaunchesForTenThousandTensors) {
  LOCKSTEP_NEEDS_GPU();
  for (const Variant& variant : cases(every_variant())) expect_two_launches(variant, 10'000);
}

}  // namespace
}  // namespace lockstep
