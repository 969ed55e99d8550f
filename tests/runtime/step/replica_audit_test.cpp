// SPDX-License-Identifier: Apache-2.0
// Copies of weights and slots in which a bit has changed by itself: found in the step that reads it, wherever it is,
// mended, and gone without a trace.
#include "runtime/step/audit/replica_audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "kernels/device/transfer.h"
#include "tests/support/devices.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using toy::Outcome;
using toy::Setting;
using toy::train;

void flip(VariableStore& variables, const std::string& path, int64_t element, int bit) {
  const View view = variables.memory().view(variables.plan().at(path));
  auto* const byte = static_cast<unsigned char*>(view.data) + element * size_of(view.dtype) + bit / 8;
  const bool on_host = view.device == DeviceKind::cpu;
  Stream stream = on_host ? Stream::cpu() : Stream::cuda(0);
  unsigned char value = 0;
  copy(stream, &value, byte, 1);
  stream.synchronize();
  value = static_cast<unsigned char>(value ^ (1u << (bit % 8)));
  copy(stream, byte, &value, 1);
  stream.synchronize();
}

// A flip before every step: of each bit in turn, on each rank in turn, of an element that moves.
Setting flipping(Setting setting, const std::string& path, int bits) {
  setting.steps = bits;
  setting.before_step = [path, bits, ranks = setting.ranks](int64_t step, int rank, VariableStore& variables,
                                                            TrainStep&) {
    const int64_t elements = variables.plan().at(path).local_elements;
    if (rank == step % ranks) flip(variables, path, step * 7 % elements, int(step) % bits);
  };
  return setting;
}

void expect_mended(const Setting& setting, const std::string& path, int bits) {
  Setting flawed = flipping(setting, path, bits), whole = flawed;
  whole.before_step = {};
  const Outcome expected = train(whole);
  EXPECT_NE(train(flawed).ledger, expected.ledger) << "nothing was flipped";
  flawed.audit_replicas = true;
  const Outcome audited = train(flawed);
  EXPECT_EQ(audited.ledger, expected.ledger) << path;
  EXPECT_EQ(audited.values, expected.values) << path;
  EXPECT_EQ(audited.counters, expected.counters) << path;
  ASSERT_EQ(audited.repairs.size(), size_t(bits)) << path;
  for (int step = 0; step < bits; ++step) {
    const ReplicaRepair& repair = audited.repairs[size_t(step)];
    EXPECT_EQ(repair.step, step);
    EXPECT_EQ(repair.variable, path);
    EXPECT_EQ(repair.pieces, 1);
  }
}

TEST(ReplicaAudit, MendsEveryBitOfWeightsAndSlots) {
  const Setting three{.ranks = 3, .node_of = {0, 1, 2}};
  for (const char* path : {"first/weight", "last/bias", "first/weight/adam/momentum"}) expect_mended(three, path, 32);
}

TEST(ReplicaAudit, MendsNarrowWeightsAndTheirMasters) {
  Setting narrow{.ranks = 3, .node_of = {0, 1, 2}};
  narrow.weights = DType::bf16;
  expect_mended(narrow, "first/weight", 16);
}

TEST(ReplicaAudit, NamesElementValuesAndRanks) {
  Setting setting{.ranks = 5, .steps = 3, .node_of = {0, 0, 1, 1, 2}};
  setting.audit_replicas = true;
  setting.before_step = [](int64_t step, int rank, VariableStore& variables, TrainStep&) {
    if (step == 2 && rank == 2) flip(variables, "first/weight", 14, 2);
  };
  const Outcome outcome = train(setting);
  ASSERT_EQ(outcome.repairs.size(), 1u);
  EXPECT_EQ(outcome.repairs[0].rank, 2);
  EXPECT_THAT(outcome.repairs[0].what,
              AllOf(HasSubstr("before the update of step 2"), HasSubstr("element [0, 14] of first/weight is 0x"),
                    HasSubstr(" on ranks 0, 1 and 4, and 0x"), HasSubstr(" on ranks 2 and 3;"), HasSubstr("1 of ")));
}

TEST(ReplicaAudit, MendsCopiesOfGpusOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  Setting setting{.ranks = 3, .on_gpu = true, .transport = DeviceTransport::staged};
  expect_mended(setting, "first/weight", 8);
}

std::string refusal(const Setting& setting, ErrorCode code) {
  try {
    train(setting);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "expected an error";
  return {};
}

TEST(ReplicaAudit, StopsWhereNobodyKnowsWhichIsRight) {
  Setting setting = flipping({.ranks = 2, .node_of = {0, 1}}, "last/bias", 1);
  setting.audit_replicas = true;
  EXPECT_THAT(
      refusal(setting, ErrorCode::numbers),
      AllOf(HasSubstr("differ before the update of step 0, so nothing is updated: element [0] of last/bias is "),
            HasSubstr(" on rank 0 ("), HasSubstr(" on rank 1 ("), HasSubstr("held by more than half of the 2 copies")));
}

TEST(ReplicaAudit, GivesUpOnMemoryThatDoesNotStayMended) {
  Setting setting = flipping({.ranks = 3, .node_of = {0, 1, 2}}, "last/bias", 1);
  setting.audit_replicas = true;
  std::mutex mutex;
  int repairs = 0;
  setting.on_repair = [&](const ReplicaRepair&, VariableStore& variables) {
    const std::lock_guard lock(mutex);
    if (repairs++ % 3 == 0) flip(variables, "last/bias", 0, 0);
  };
  EXPECT_THAT(refusal(setting, ErrorCode::numbers), HasSubstr("it was mended 2 times and differs again"));
  EXPECT_EQ(repairs, 6) << "three ranks, two repairs";
}

// What was read wrongly and is right in memory has gone into the step as well.
TEST(ReplicaAudit, TakesAStepAgainThatHasReadWhatIsRightByNow) {
  VariableTable declared;
  declared.parameter("weight", {4, 3}, Initializer::normal(1));
  const OptimizerSet optimizer = make_optimizer_set(declared, {.name = "sgd"});
  const Plan plan =
      make_plan({.variables = declared, .optimizer = optimizer, .settings = toy::plan_settings({.ranks = 3})});
  run_thread_ranks({.ranks = 3, .node_of = {0, 1, 2}}, [&](Communicator& ranks) {
    Stream stream = Stream::cpu();
    Pool pool(stream.device());
    VariableStore variables(plan, declared, optimizer, ranks, pool, 1);
    ReplicaAudit audit(ranks, variables, pool, stream);
    std::vector<double> cells(size_t(audit.cells()));
    const auto compare = [&] {
      ranks.all_reduce({cells.data(), DType::f64, DeviceKind::cpu, Shape{audit.cells()}}, ReduceOp::sum, stream)
          .wait(stream);
      return audit.are_equal(cells.data());
    };
    audit.enter(cells.data());
    EXPECT_TRUE(compare());
    if (ranks.rank() == 1) flip(variables, "weight", 5, 3);
    audit.enter(cells.data());
    if (ranks.rank() == 1) flip(variables, "weight", 5, 3);
    EXPECT_FALSE(compare());
    const ReplicaRepair repair = audit.repair(7);
    EXPECT_EQ(repair.rank, 1);
    EXPECT_THAT(repair.what, HasSubstr("was read otherwise a moment ago"));
  });
}

TEST(ReplicaAudit, RefusesOneCopy) {
  Setting setting{.ranks = 3};
  setting.audit_replicas = true;
  EXPECT_THAT(refusal(setting, ErrorCode::usage), AllOf(HasSubstr("of which there is one"), HasSubstr("share it")));
}

}  // namespace
}  // namespace lockstep
