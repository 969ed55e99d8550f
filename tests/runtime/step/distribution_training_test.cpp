// SPDX-License-Identifier: Apache-2.0
// Where Adam is created does not matter: inside a data-parallel scope, outside of it, or in another scope, it is a
// declaration, and its counter and slots come into being with the plan. Runs on threads and under mpirun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "collectives/device_mesh.h"
#include "kernels/softmax.h"
#include "runtime/layers/linear.h"
#include "runtime/layers/metrics.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/state/ledger.h"
#include "runtime/state/read_aggregated.h"
#include "runtime/step/train_step.h"
#include "tests/support/batch_parts.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

constexpr int64_t kInputs = 5, kClasses = 3, kSamples = 6, kSteps = 7;

struct TinyModel {
  VariableTable variables;
  std::unique_ptr<Linear> first, last;
  Variable temperature, seen;

  void declare() {
    first = std::make_unique<Linear>(variables, "first", kInputs, 8);
    last = std::make_unique<Linear>(variables, "last", 8, kClasses);
    seen = variables.declare({"seen", {}, DType::i64, Role::metric, {}, {}});
  }
  Results forward(Context& context, const Batch& batch) const {
    const Tensor labels = batch["labels"];
    const Tensor scores = (*last)(context, relu(context, (*first)(context, batch["inputs"])));
    return Results{softmax_cross_entropy(context, scores, labels),
                   {{"correct", count_correct(context, scores, labels)}}};
  }
};

struct Trained {
  std::string state;  // ledger line after the last step
  std::vector<float> losses;
};

// Trains and checks on this rank what the plan says of counter, learning rate and slots.
Trained train(const TinyModel& model, const Optimizer& adam, const Distribution& distribution, Communicator& ranks) {
  const Plan plan = make_plan({.variables = model.variables,
                               .optimizer = adam,
                               .settings = {.mesh = distribution.mesh,
                                            .batch_axis = distribution.batch_axis,
                                            .layout_rules = distribution.layouts.rules(),
                                            .virtual_ranks = 8}});
  const DeviceMesh mesh(ranks, plan.settings.mesh);
  Communicator& batch = mesh.group(plan.settings.batch_axis).host();
  Stream stream = Stream::cpu();
  Pool pool(stream.device());
  VariableStore store(plan, model.variables, adam, batch, pool, 11);
  EXPECT_EQ(store.scalars().iteration(), 0) << "creating and broadcasting state must not count as a step";
  TrainStep step(
      batch, store, adam, [&](Context& context, const Batch& batch) { return model.forward(context, batch); }, stream,
      pool, 11);
  std::vector<float> inputs(size_t(kSamples * kInputs));
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = float(i % 7) / 7;
  const std::vector<int32_t> labels = {0, 1, 2, 2, 1, 0};
  const std::vector<int64_t> ids = {0, 1, 2, 3, 4, 5};
  std::vector<BatchPart> leaves;
  for (int leaf = step.first_part(); leaf < step.last_part(); ++leaf)
    leaves.push_back(labelled_part(leaf, {inputs.data(), DType::f32, DeviceKind::cpu, Shape{kSamples, kInputs}},
                                   {labels.data(), DType::i32, DeviceKind::cpu, Shape{kSamples}},
                                   {ids.data(), DType::i64, DeviceKind::cpu, Shape{kSamples}}));
  Trained trained;
  for (int64_t s = 0; s < kSteps; ++s) {
    trained.losses.push_back(step.run({s, 8 * kSamples, leaves}).loss);
    EXPECT_EQ(store.scalars().iteration(), s + 1) << "on " << ranks.describe(ranks.rank());
    // Every rank counts the samples it has seen; nothing but reading adds them up.
    *data<int64_t>(store.memory().view(plan.at("seen"))) += kSamples * int64_t(leaves.size());
  }

  EXPECT_EQ(store.scalars().learning_rate(), adam.learning_rate());
  for (const char* slot : {"first/weight/adam/momentum", "last/bias/adam/velocity"}) {
    const PlannedVariable& planned = plan.at(slot);
    EXPECT_EQ(planned.layout, plan.variables[size_t(planned.parameter)].layout);
    EXPECT_EQ(store.memory().view(planned).shape, planned.shape);
  }
  for (int reading = 0; reading < 2; ++reading) {
    const std::vector<AggregatedValue> read = read_aggregated(store, batch);
    EXPECT_EQ(read.size(), 1u);
    EXPECT_EQ(read[0].values[0], double(8 * kSamples * kSteps));
  }
  // The ranks of a node share slots and parameters; counters are replicas, and must be equal.
  int64_t most = store.scalars().iteration(), least = store.scalars().iteration();
  ranks.all_reduce({&most, DType::i64, DeviceKind::cpu, Shape{}}, ReduceOp::max, stream).wait(stream);
  ranks.all_reduce({&least, DType::i64, DeviceKind::cpu, Shape{}}, ReduceOp::min, stream).wait(stream);
  EXPECT_EQ(most, least);
  trained.state = ledger_line(kSteps, trained.losses.back(), store, 0);
  const std::vector<std::string> states = ranks.all_gather_bytes(trained.state);
  for (const std::string& state : states) EXPECT_EQ(state, trained.state);
  return trained;
}

TEST(AdamInAScope, TrainsAlikeWhereverItWasCreated) {
  on_every_group([](Communicator& ranks) {
    const Distribution distribution = data_parallel({{"data", ranks.size()}});
    TinyModel inside, outside, elsewhere;
    std::unique_ptr<Optimizer> made_inside, made_elsewhere;
    {
      const DistributionScope scope(inside.variables, distribution);
      inside.declare();
      made_inside = make_optimizer("adam");
    }
    const auto made_outside = make_optimizer("adam");
    {
      const DistributionScope scope(outside.variables, distribution);
      outside.declare();
    }
    {
      const DistributionScope other(elsewhere.variables, data_parallel({{"data", 64}}));
      made_elsewhere = make_optimizer("adam");
    }
    elsewhere.declare();
    const Trained a = train(inside, *made_inside, distribution, ranks);
    const Trained b = train(outside, *made_outside, distribution, ranks);
    const Trained c = train(elsewhere, *made_elsewhere, distribution, ranks);
    EXPECT_EQ(a.state, b.state);
    EXPECT_EQ(a.state, c.state);
    EXPECT_LT(a.losses.back(), a.losses.front());
  });
}

TEST(AdamInAScope, GivesTheSamePlanWhereverItWasCreated) {
  const Distribution distribution = data_parallel({{"data", 4}});
  TinyModel model;
  std::unique_ptr<Optimizer> inside;
  {
    const DistributionScope scope(model.variables, distribution);
    model.declare();
    inside = make_optimizer("adam");
  }
  const auto outside = make_optimizer("adam");
  const auto hash = [&](const Optimizer& adam) {
    return make_plan({.variables = model.variables,
                      .optimizer = adam,
                      .settings = {.mesh = distribution.mesh,
                                   .batch_axis = distribution.batch_axis,
                                   .layout_rules = distribution.layouts.rules()}})
        .hash();
  };
  EXPECT_EQ(hash(*inside), hash(*outside));
}

TEST(DistributionScope, NestsRestoresAndSurvivesExceptions) {
  VariableTable variables;
  const Distribution outer = data_parallel({{"data", 4}}), inner = data_parallel({{"data", 2}, {"model", 2}});
  const auto mesh_of = [&](const char* name) {
    const Variable v = variables.parameter(name, {2}, {});
    const auto& distribution = variables[v].distribution;
    return distribution ? to_string(distribution->mesh) : std::string("none");
  };
  EXPECT_EQ(mesh_of("before"), "none");
  {
    const DistributionScope first(variables, outer);
    EXPECT_EQ(mesh_of("a"), "data=4");
    try {
      const DistributionScope second(variables, inner);
      EXPECT_EQ(mesh_of("b"), "data=2,model=2");
      throw std::runtime_error("left by an exception");
    } catch (const std::runtime_error&) {
    }
    EXPECT_EQ(mesh_of("c"), "data=4");
  }
  EXPECT_EQ(mesh_of("after"), "none");
}

TEST(DistributionScope, IsSeenByItsTableOnly) {
  VariableTable mine, others;
  const DistributionScope scope(mine, data_parallel({{"data", 4}}));
  std::thread other([&] { others.parameter("w", {2}, {}); });
  other.join();
  EXPECT_EQ(others.declarations()[0].distribution, nullptr);
}

TEST(DistributionScope, OfAnotherMeshThanThePlanIsAnErrorAndNoMixedPlan) {
  VariableTable variables;
  variables.parameter("mine", {2}, {});
  {
    const DistributionScope scope(variables, data_parallel({{"data", 2}, {"model", 2}}));
    variables.parameter("theirs", {2}, {});
  }
  const auto adam = make_optimizer("adam");
  try {
    make_plan({.variables = variables, .optimizer = *adam, .settings = {.mesh = {{"data", 4}}}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("theirs"), testing::HasSubstr("data=2,model=2"),
                                             testing::HasSubstr("data=4")));
  }
}

TEST(Aggregation, SumsExactlyWhatNoDoubleCanHold) {
  on_every_group([](Communicator& ranks) {
    VariableTable variables;
    variables.parameter("w", {1}, {});
    variables.declare({"count", {}, DType::i64, Role::metric, {}, {}});
    variables.declare({"mean", {2}, DType::f32, Role::statistic, {}, {}, Aggregation::mean});
    variables.declare({"most", {}, DType::f64, Role::metric, {}, {}, Aggregation::max});
    const auto sgd = make_optimizer("sgd");
    const Plan plan =
        make_plan({.variables = variables, .optimizer = *sgd, .settings = {.mesh = {{"data", ranks.size()}}}});
    Pool pool({});
    VariableStore store(plan, variables, *sgd, ranks, pool, 1);
    const int64_t large = (int64_t(1) << 51) + 1;
    *data<int64_t>(store.memory().view(plan.at("count"))) = ranks.rank() % 2 ? -large : large;
    data<float>(store.memory().view(plan.at("mean")))[1] = float(ranks.rank());
    *data<double>(store.memory().view(plan.at("most"))) = -double(ranks.rank());
    ranks.log().keep_records(true);
    const size_t before = ranks.log().records().size();
    const auto read = read_aggregated(store, ranks);
    ranks.log().keep_records(false);
    EXPECT_EQ(ranks.log().records().size() - before, ranks.size() > 1 ? 2u : 0u)
        << "all sums and means in one collective";
    ASSERT_EQ(read.size(), 3u);
    EXPECT_EQ(read[0].values[0], ranks.size() % 2 ? double(large) : 0);
    EXPECT_EQ(read[1].values[1], double(ranks.size() - 1) / 2);
    EXPECT_EQ(read[2].values[0], 0);
    EXPECT_EQ(*data<double>(store.memory().view(plan.at("most"))), -double(ranks.rank())) << "local values stay";
  });
}

}  // namespace
}  // namespace lockstep
