// SPDX-License-Identifier: Apache-2.0
// Training whose gradients are reduced in bf16: one ledger for any ranks, nodes, transports and devices, and the bytes
// of the plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device/known_name.h"
#include "runtime/plan/check/plan_check.h"
#include "runtime/plan/plan_text.h"
#include "tests/support/devices.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using toy::Outcome;
using toy::Setting;
using toy::train;

Setting in_bf16(Setting setting) {
  setting.plan.reduce_dtype = DType::bf16;
  return setting;
}

Setting on_gpu(Setting setting, DeviceTransport transport, bool graph = false) {
  setting.on_gpu = true;
  setting.transport = transport;
  setting.graph = graph;
  return setting;
}

bool enough_gpus(int ranks, DeviceTransport transport) {
  return transport == DeviceTransport::staged || ranks <= find_cuda_devices().count();
}

TEST(Bf16Reduction, HasOneLedgerOnAnyCpuRanksThreadsBucketsAndNodes) {
  const Outcome one = train(in_bf16({.ranks = 1}));
  EXPECT_NE(one.ledger, train({.ranks = 1}).ledger);
  EXPECT_LT(one.losses.back(), one.losses.front());
  for (const int ranks : {2, 3, 4, 5, 8})
    EXPECT_EQ(train(in_bf16({.ranks = ranks, .threads = ranks % 2 + 1})).ledger, one.ledger) << ranks << " ranks";
  for (const int64_t bytes : {1, 1 << 20})
    EXPECT_EQ(train(in_bf16({.ranks = 2, .bucket_bytes = bytes})).ledger, one.ledger) << bytes << " B";
  for (const std::vector<int>& nodes :
       {std::vector<int>{0, 1}, std::vector<int>{0, 0, 1}, std::vector<int>{0, 1, 1, 2, 0}})
    EXPECT_EQ(train(in_bf16({.ranks = int(nodes.size()), .node_of = nodes})).ledger, one.ledger);
}

TEST(Bf16Reduction, RoundsASingleLeaf) {
  EXPECT_NE(train(in_bf16({.virtual_ranks = 1})).ledger, train({.virtual_ranks = 1}).ledger);
}

TEST(DeviceTrainingInBf16, HasTheLedgerOfCpuRanksOnAnyRanksByEveryTransport) {
  LOCKSTEP_NEEDS_GPU();
  for (const int virtual_ranks : {1, 8}) {
    const Setting setting = in_bf16({.virtual_ranks = virtual_ranks, .steps = 8, .batch = 24});
    const Outcome one = train(on_gpu(setting, DeviceTransport::automatic));
    if (products_have_equal_bits()) {
      EXPECT_EQ(one.ledger, train(setting).ledger) << virtual_ranks << " leaves";
    }
    for (const DeviceTransport transport : {DeviceTransport::nccl, DeviceTransport::staged})
      for (const int ranks : {2, 3, 4}) {
        if (!enough_gpus(ranks, transport)) continue;
        Setting more = setting;
        more.ranks = ranks;
        EXPECT_EQ(train(on_gpu(more, transport)).ledger, one.ledger)
            << virtual_ranks << " leaves on " << ranks << " ranks, transport " << int(transport);
      }
  }
}

TEST(DeviceTrainingInBf16, HasTheSameBitsFromARecordedStep) {
  LOCKSTEP_NEEDS_GPU();
  for (const int ranks : {1, 2, 4}) {
    if (!enough_gpus(ranks, DeviceTransport::nccl)) continue;
    const Setting setting = in_bf16({.ranks = ranks, .steps = 8});
    const Outcome plain = train(on_gpu(setting, DeviceTransport::nccl));
    const Outcome graph = train(on_gpu(setting, DeviceTransport::nccl, /*graph=*/true));
    EXPECT_EQ(graph.ledger, plain.ledger) << ranks << " ranks";
    EXPECT_EQ(graph.trace, plain.trace);
    if (products_have_equal_bits()) {
      EXPECT_EQ(graph.ledger, train(setting).ledger) << ranks << " ranks";
    }
  }
}

TEST(DeviceTrainingInBf16, LearnsInFastModeAlsoFromARecordedStep) {
  LOCKSTEP_NEEDS_GPU();
  for (const DeviceTransport transport : {DeviceTransport::nccl, DeviceTransport::staged}) {
    if (!enough_gpus(2, transport)) continue;
    const Setting setting = in_bf16({.ranks = 2, .plan = {.reduce = ReduceMode::fast}, .steps = 60});
    for (const bool graph : {false, true}) {
      if (graph && transport == DeviceTransport::staged) continue;
      const Outcome fast = train(on_gpu(setting, transport, graph));
      EXPECT_LT(fast.losses.back(), 0.8f * fast.losses.front());
    }
  }
}

TEST(DeviceTrainingInBf16, SkipsAStepTogether) {
  LOCKSTEP_NEEDS_GPU();
  const Setting bad = in_bf16({.ranks = 2, .steps = 8, .poison = 1e30f});
  const Outcome cpu = train(bad), gpu = train(on_gpu(bad, DeviceTransport::staged));
  EXPECT_THAT(gpu.skipped, testing::ElementsAre(false, false, false, false, true, false, false, false));
  EXPECT_EQ(gpu.skipped, cpu.skipped);
  EXPECT_EQ(gpu.not_finite, cpu.not_finite);
  EXPECT_THAT(gpu.counters, Each(7));
}

Plan plan_of(const Setting& setting) {
  VariableTable variables;
  const Linear first(variables, "first", toy::kInputs, 16), last(variables, "last", 16, toy::kClasses);
  return make_plan({.variables = variables, .optimizer = *make_optimizer("adam"), .settings = plan_settings(setting)});
}

void expect_as_planned(const Setting& setting) {
  const Outcome found = train(setting);
  const Plan plan = plan_of(setting);
  SCOPED_TRACE(
      str(setting.ranks, " ranks, ", to_string(setting.plan.reduce), ", ", to_string(setting.plan.reduce_dtype)));
  EXPECT_EQ(found.gradient_bytes, plan.memory().gradients);
  std::vector<CollectiveRecord> expected;
  for (int64_t step = 0; step < setting.steps; ++step)
    for (const PlannedCollective& c : plan.sequence()) expected.push_back({c.kind, c.dtype, "ranks", c.bytes});
  EXPECT_EQ(found.trace, expected);
  for (const PlannedCollective& c : plan.collectives) {
    if (c.what.starts_with("gradients")) {
      EXPECT_EQ(c.dtype, DType::bf16) << c.what;
    }
  }
}

TEST(Bf16Reduction, HoldsAndSendsWhatThePlanSays) {
  for (const ReduceMode mode : {ReduceMode::tree, ReduceMode::fast})
    for (const int ranks : {1, 2, 3})
      expect_as_planned(in_bf16({.ranks = ranks, .plan = {.reduce = mode}, .steps = 3}));
}

TEST(DeviceTrainingInBf16, HoldsAndSendsWhatThePlanSays) {
  LOCKSTEP_NEEDS_GPU();
  for (const ReduceMode mode : {ReduceMode::tree, ReduceMode::fast})
    for (const int ranks : {1, 2, 3, 4}) {
      const Setting setting = in_bf16({.ranks = ranks, .plan = {.reduce = mode}, .steps = 4});
      expect_as_planned(on_gpu(setting, DeviceTransport::staged));
      if (!enough_gpus(ranks, DeviceTransport::nccl)) continue;
      expect_as_planned(on_gpu(setting, DeviceTransport::nccl, /*graph=*/true));
    }
}

template <class Body>
std::string usage_error(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    return error.what();
  }
  return "no error";
}

TEST(Bf16Reduction, TellsPlansApart) {
  const Plan f32 = plan_of({.ranks = 2}), bf16 = plan_of(in_bf16({.ranks = 2}));
  EXPECT_NE(f32.hash(), bf16.hash());
  // One rank has no collectives, and other bits all the same.
  EXPECT_NE(plan_of({}).hash(), plan_of(in_bf16({})).hash());
  EXPECT_THAT(plan_difference(f32, bf16), AllOf(HasSubstr("reduce dtype: f32 -> bf16"), HasSubstr("reduce_scatter")));
  Plan refused = bf16;
  refused.settings.reduce = ReduceMode::mpi;
  EXPECT_THROW(check_plan(refused), Error);
}

TEST(Bf16Reduction, IsAskedForByNameAndRefusedWhereMpiAdds) {
  const auto parse = [](const char* name) { return parse_choice("--reduce-dtype", name, kStorageDTypes); };
  EXPECT_EQ(parse("f32"), DType::f32);
  EXPECT_EQ(parse("bf16"), DType::bf16);
  for (const char* name : {"", "f16", "f64", "BF16"})
    EXPECT_THAT(usage_error([&] { parse(name); }),
                AllOf(HasSubstr("--reduce-dtype"), HasSubstr("f32 or bf16"), HasSubstr(str("'", name, "'"))));
  EXPECT_THAT(usage_error([] { train(in_bf16({.plan = {.reduce = ReduceMode::mpi}})); }),
              AllOf(HasSubstr("--reduce mpi"), HasSubstr("--reduce-dtype bf16"), HasSubstr("'tree' or 'fast'")));
}

}  // namespace
}  // namespace lockstep
