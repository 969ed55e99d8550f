// SPDX-License-Identifier: Apache-2.0
// Training of ranks with a GPU each: the bits of CPU ranks where products are equal, the same bits on any number of
// ranks, one decision, and nothing that waits for the host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/device/transfer.h"
#include "runtime/plan/buckets.h"
#include "runtime/step/step_graphs.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"
#include "tests/support/ranks.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::HasSubstr;
using toy::Outcome;
using toy::Setting;
using toy::train;

Setting on_gpu(Setting setting, DeviceTransport transport = DeviceTransport::automatic) {
  setting.on_gpu = true;
  setting.transport = transport;
  return setting;
}

constexpr DeviceTransport kTransports[] = {DeviceTransport::nccl, DeviceTransport::staged};

// The ranks of one GPU share it only where gradients are staged.
bool enough_gpus(int ranks, DeviceTransport transport) {
  return transport == DeviceTransport::staged || ranks <= find_cuda_devices().count();
}

// The ledger of CPU ranks where products have equal bits, otherwise losses near to theirs.
void expect_like_cpu(const Setting& setting, DeviceTransport transport = DeviceTransport::automatic) {
  const Outcome cpu = train(setting), gpu = train(on_gpu(setting, transport));
  if (products_have_equal_bits()) {
    EXPECT_EQ(gpu.ledger, cpu.ledger);
  } else {
    ASSERT_EQ(gpu.losses.size(), cpu.losses.size());
    for (size_t s = 0; s < cpu.losses.size(); ++s)
      EXPECT_NEAR(gpu.losses[s], cpu.losses[s], 1e-4f * std::max(1.0f, cpu.losses[s])) << "step " << s;
  }
  EXPECT_EQ(gpu.counters, cpu.counters);
  EXPECT_EQ(gpu.skipped, cpu.skipped);
  // Where scores are nearly equal, products of its own may give a GPU another answer.
  EXPECT_NEAR(gpu.last.sum_of_all_steps("correct"), cpu.last.sum_of_all_steps("correct"),
              products_have_equal_bits() ? 0 : 2);
}

TEST(DeviceTraining, TakesTheBitsOfCpuRanks) {
  LOCKSTEP_NEEDS_GPU();
  expect_like_cpu({.ranks = 1});
  expect_like_cpu({.ranks = 1, .batch = 24});  // partial batches
  expect_like_cpu({.ranks = 1, .batch = 60});  // and leaves without samples
}

TEST(DeviceTraining, TakesTheSameBitsOnAnyNumberOfRanks) {
  LOCKSTEP_NEEDS_GPU();
  // Partial batches, and leaves without samples, come with 24 and 60.
  for (const int64_t batch : cases_on_gpus<int64_t>({16, 24, 60})) {
    const Setting setting{.ranks = 1, .steps = 6, .batch = batch};
    const Outcome one = train(on_gpu(setting));
    ASSERT_EQ(one.ledger.size(), 6u);
    for (const DeviceTransport transport : kTransports)
      for (const int ranks : cases_on_gpus({2, 4, 8, 3})) {
        if (!enough_gpus(ranks, transport)) continue;
        Setting more = setting;
        more.ranks = ranks;
        EXPECT_EQ(train(on_gpu(more, transport)).ledger, one.ledger)
            << ranks << " ranks, batch " << batch << ", transport " << int(transport);
      }
  }
}

TEST(DeviceTraining, TakesTheSameBitsForAnyBuckets) {
  LOCKSTEP_NEEDS_GPU();
  const Outcome one = train(on_gpu({.ranks = 2}, DeviceTransport::staged));
  for (const int64_t bytes : {1, 1 << 20})
    EXPECT_EQ(train(on_gpu({.ranks = 2, .bucket_bytes = bytes}, DeviceTransport::staged)).ledger, one.ledger) << bytes;
}

TEST(DeviceTraining, LearnsInFastMode) {
  LOCKSTEP_NEEDS_GPU();
  for (const DeviceTransport transport : kTransports) {
    if (!enough_gpus(2, transport)) continue;
    const Outcome fast = train(
        on_gpu({.ranks = 2, .plan = {.reduce = ReduceMode::fast}, .steps = kUnderSanitizer ? 30 : 60}, transport));
    EXPECT_LT(fast.losses.back(), 0.8f * fast.losses.front());
  }
}

TEST(DeviceTraining, TakesTheSameBitsWithEveryOptimizer) {
  LOCKSTEP_NEEDS_GPU();
  for (const std::string_view name : cases_on_gpus(optimizer_names(), 4)) {
    SCOPED_TRACE(std::string(name));
    expect_like_cpu({.ranks = 2, .steps = 5, .optimizer = std::string(name)}, DeviceTransport::staged);
  }
}

TEST(DeviceTraining, FollowsSchedulesAndClipsLikeCpuRanks) {
  LOCKSTEP_NEEDS_GPU();
  const Schedule schedule = make_schedule("cosine(steps=12, warmup_steps=4)", 0.01);
  expect_like_cpu({.schedule = &schedule});
  for (const ClipOptions& clip : cases_on_gpus({ClipOptions{.clipnorm = 0.05}, ClipOptions{.global_clipnorm = 0.1},
                                                ClipOptions{.clipvalue = 0.01}, ClipOptions{.global_clipnorm = 1e6}})) {
    SCOPED_TRACE(str(clip.clipnorm, " ", clip.global_clipnorm, " ", clip.clipvalue));
    expect_like_cpu({.ranks = 2, .optimizer = "nadam", .clip = clip}, DeviceTransport::staged);
  }
}

TEST(DeviceTraining, SharesVariablesOutAveragesAndScalesLikeCpuRanks) {
  LOCKSTEP_NEEDS_GPU();
  const std::vector<std::string> groups = {"first/bias => overwrite",
                                           "last/bias => sgd(learning_rate=0.05, momentum=0.9)",
                                           "last/weight => weight_decay=0.1, rate_factor=0.5"};
  const Schedule falling = make_schedule("exponential(steps=10, decay_rate=0.5)", 0.01);
  for (const ClipOptions& clip :
       cases_on_gpus({ClipOptions{.clipnorm = 0.05}, ClipOptions{}, ClipOptions{.clipvalue = 0.01}}, 1))
    expect_like_cpu({.ranks = 2,
                     .groups = groups,
                     .average = MovingAverage{.momentum = 0.5, .overwrite_every = 3},
                     .scaling = LossScaling{.initial = 0x1p126, .growth_steps = 1},
                     .clip = clip,
                     .schedule = &falling},
                    DeviceTransport::staged);
  expect_like_cpu({.ranks = 2, .plan = {.accumulation = 3}, .batch = 24}, DeviceTransport::staged);
  const Setting averaged{.ranks = 2, .average = MovingAverage{.momentum = 0.9}, .take_averages = true};
  if (products_have_equal_bits()) {
    EXPECT_EQ(train(on_gpu(averaged, DeviceTransport::staged)).values, train(averaged).values);
  }
  const Setting nadams{.ranks = 1, .optimizer = "nadam", .groups = {"last/.* => nadam(beta_1=0.5)"}};
  expect_like_cpu(nadams);
  Setting recorded = on_gpu(nadams);
  recorded.graph = true;
  EXPECT_EQ(train(recorded).ledger, train(on_gpu(nadams)).ledger);
}

TEST(DeviceTraining, SkipsAStepTogetherAndNamesTheVariable) {
  LOCKSTEP_NEEDS_GPU();
  // So large that the slope of gelu is infinity times zero, while the loss stays a number.
  const Setting bad{.ranks = 2, .steps = 8, .poison = 1e30f};
  const Outcome cpu = train(bad), gpu = train(on_gpu(bad, DeviceTransport::staged));
  EXPECT_THAT(gpu.skipped, testing::ElementsAre(false, false, false, false, true, false, false, false));
  EXPECT_EQ(gpu.skipped, cpu.skipped);
  EXPECT_EQ(gpu.not_finite, cpu.not_finite);
  EXPECT_THAT(gpu.counters, Each(7));
  EXPECT_EQ(gpu.last.skipped_sum, 1);
  EXPECT_EQ(gpu.last_not_finite, cpu.last_not_finite);
  EXPECT_THAT(gpu.last_not_finite, testing::Not(testing::IsEmpty()));
}

TEST(DeviceTraining, StopsAtALossThatIsNotFinite) {
  LOCKSTEP_NEEDS_GPU();
  for (const bool every_step : {true, false}) {
    try {
      train(on_gpu({.ranks = 2, .poison = NAN, .report_every_step = every_step}, DeviceTransport::staged));
      FAIL() << "expected an error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::numbers);
      EXPECT_THAT(error.what(), HasSubstr("at step 4")) << "steps after it have been queued, but it is named";
    }
  }
}

TEST(DeviceTraining, TakesTheSameBitsFromARecordedStep) {
  LOCKSTEP_NEEDS_GPU();
  for (const int ranks : {1, 2}) {
    if (!enough_gpus(ranks, DeviceTransport::nccl)) continue;
    for (const int64_t batch : cases_on_gpus<int64_t>({24, 16}, 1)) {
      const Schedule schedule = make_schedule("cosine(steps=12, warmup_steps=4)", 0.01);
      const Setting setting{.ranks = ranks, .batch = batch, .schedule = &schedule};
      const Outcome plain = train(on_gpu(setting, DeviceTransport::nccl));
      Setting recorded = on_gpu(setting, DeviceTransport::nccl);
      recorded.graph = true;
      const Outcome graph = train(recorded);
      EXPECT_EQ(graph.ledger, plain.ledger) << ranks << " ranks, batch " << batch;
      EXPECT_EQ(graph.trace, plain.trace);
    }
  }
}

// What makes recordings void is a rank's own, and recording is not: NCCL wants it of all ranks or of none.
TEST(DeviceTraining, RecordsOnAllRanksWhatOneOfThemMustRecord) {
  LOCKSTEP_NEEDS_GPU();
  if (find_cuda_devices().count() < 2) return;
  run_ranks(2, [](Communicator& ranks) {
    const Device device = choose_device(ranks, DeviceTransport::nccl);
    Stream stream = Stream::cuda(device.index);
    Pool pool(device);
    const Buffer sum(pool, 4, Purpose::data);
    const View value = sum.view(DType::i32, Shape{1});
    clear(stream, value);
    StepGraphs graphs;
    const auto comm = make_device_communicator(ranks, device, DeviceTransport::nccl);
    const AbandonOnFailure abandon(comm.get());
    int32_t one = 1;
    copy(stream, value.data, &one, 4);
    for (int64_t step = 0; step < 8; ++step) {
      // Rank 1 meets another shape at step 4, and what its recordings hold changes at step 6.
      const StepShape shape{ranks.rank() == 1 && step == 4 ? 1 : 0, {}};
      graphs.run(stream, ranks, shape, 0, {ranks.rank() == 1 && step >= 6},
                 [&] { comm->all_reduce(value, ReduceOp::sum, stream).wait(stream); });
      comm->synchronize(stream);
    }
    int32_t result = 0;
    copy(stream, &result, value.data, 4);
    comm->synchronize(stream);
    EXPECT_EQ(result, 1 << 8);
  });
}

TEST(DeviceTraining, RefusesToRecordWhatNeedsTheHost) {
  LOCKSTEP_NEEDS_GPU();
  Setting setting = on_gpu({.ranks = 2}, DeviceTransport::staged);
  setting.graph = true;
  try {
    train(setting);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    EXPECT_THAT(error.what(), HasSubstr("--graph"));
  }
}

TEST(DeviceTraining, HoldsAndSendsWhatThePlanSays) {
  LOCKSTEP_NEEDS_GPU();
  VariableTable variables;
  const Linear first(variables, "first", toy::kInputs, 16), last(variables, "last", 16, toy::kClasses);
  for (const ReduceMode mode : {ReduceMode::tree, ReduceMode::fast})
    for (const int ranks : {1, 2, 3}) {
      const Outcome gpu =
          train(on_gpu({.ranks = ranks, .plan = {.reduce = mode}, .steps = 3}, DeviceTransport::staged));
      const Plan plan = make_plan({.variables = variables,
                                   .optimizer = *make_optimizer("adam"),
                                   .settings = {.mesh = {{"data", ranks}},
                                                .reduce = mode,
                                                .virtual_ranks = 8,
                                                .bucket_bytes = 256,
                                                .copies = Copies::per_rank}});
      EXPECT_EQ(gpu.parameter_bytes, plan.memory().parameters);
      EXPECT_EQ(gpu.slot_bytes, plan.memory().slots);
      EXPECT_EQ(gpu.gradient_bytes, plan.memory().gradients) << ranks << " ranks, " << to_string(mode);
      EXPECT_EQ(gpu.scalar_bytes, plan.memory().scalars);
      std::vector<CollectiveRecord> expected;
      for (int step = 0; step < 3; ++step)
        for (const PlannedCollective& c : plan.sequence()) expected.push_back({c.kind, c.dtype, "ranks", c.bytes});
      EXPECT_EQ(gpu.trace, expected) << ranks << " ranks, " << to_string(mode);
    }
}

}  // namespace
}  // namespace lockstep
