// SPDX-License-Identifier: Apache-2.0
// The bug museum, runtime's wing: failures of the engine (docs/museum.md), reproduced on thread ranks by misbehaving
// through public interfaces. Every scenario is run on the real thing, which passes, and on the mutant, which does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "collectives/gradients/host_gradient_reducer.h"
#include "collectives/host/thread_ranks.h"
#include "runtime/layers/linear.h"
#include "runtime/plan/planner.h"
#include "runtime/state/ledger.h"
#include "runtime/step/train_step.h"
#include "tests/support/owned_buckets.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr int kRanks = 2, kParts = 8;
constexpr int64_t kSteps = 3;

// Passes everything on; mutants change one thing.
class Decorated : public Optimizer {
 public:
  explicit Decorated(std::unique_ptr<Optimizer> inner) : inner_(std::move(inner)) {}
  std::string_view name() const override { return inner_->name(); }
  std::span<const Slot> slots() const override { return inner_->slots(); }
  std::vector<Hyperparameter> hyperparameters() const override { return inner_->hyperparameters(); }
  double learning_rate() const override { return inner_->learning_rate(); }
  std::span<const ScalarState> scalars() const override { return inner_->scalars(); }
  bool updates_by_tensor() const override { return inner_->updates_by_tensor(); }
  int64_t scratch_bytes(const Shape& shape) const override { return inner_->scratch_bytes(shape); }
  int64_t constants_bytes() const override { return inner_->constants_bytes(); }
  void prepare(Stream& stream, const StepState& state, const LearningRates& rates,
               const StepVerdict* verdict) const override {
    inner_->prepare(stream, state, rates, verdict);
  }
  void update(Stream& stream, const StepState& state, const UpdateOperands& operands) const override {
    inner_->update(stream, state, operands);
  }

 private:
  std::unique_ptr<Optimizer> inner_;
};

// One counter for a group, stepped once per part of it that is updated.
class CountsUpdates final : public Decorated {
 public:
  using Decorated::Decorated;
  void prepare(Stream& stream, const StepState& state, const LearningRates& rates,
               const StepVerdict* verdict) const override {
    rate_ = *state.learning_rate;
    Decorated::prepare(stream, state, rates, verdict);
  }
  void update(Stream& stream, const StepState& state, const UpdateOperands& operands) const override {
    StepState again = state;
    again.iteration = &updates_;
    again.learning_rate = &rate_;
    Decorated::prepare(stream, again, {}, nullptr);
    Decorated::update(stream, state, operands);
  }

 private:
  mutable int64_t updates_ = 0;
  mutable double rate_ = 0;
};

// What a scenario may replace; absent: the real thing.
struct Scenario {
  int64_t bucket_bytes = 1;
  int64_t first_iteration = 0;
  bool poison = false;  // a sample of the last rank is not a number
  std::function<std::unique_ptr<Optimizer>()> optimizer = [] { return make_optimizer("adam"); };
  std::function<void(VariableStore&)> after_start = {};
  std::function<void(VariableStore&)> in_forward = {};
  std::function<void(VariableStore&, Communicator&)> after_step = {};
  bool skips_alone = false;  // a rank whose samples are no numbers leaves them out and goes on
};

struct Outcome {
  std::vector<int64_t> counters = std::vector<int64_t>(kRanks, -1);
  std::vector<int64_t> counters_at_start = counters;
  std::vector<uint64_t> slots_at_start = std::vector<uint64_t>(kRanks);
  std::vector<uint64_t> parameters = slots_at_start;
  std::vector<ErrorCode> errors = std::vector<ErrorCode>(kRanks, ErrorCode::internal);
};

// Two ranks train y = mean over (x w + b)^2 on leaves of one sample; "unused" gets no gradient.
class Engine {
 public:
  explicit Engine(const Scenario& scenario)
      : scenario_(scenario), layer_(variables_, "layer", 3, 40), optimizer_(scenario.optimizer()) {
    variables_.parameter("unused", {5}, Initializer::constant(1));
    for (size_t i = 0; i < inputs_.size(); ++i) inputs_[i] = std::cos(float(i));
    if (scenario.poison) inputs_.back() = NAN;
    plan_ = make_plan(
        {.variables = variables_,
         .optimizer = *optimizer_,
         .settings = {.mesh = {{"data", kRanks}}, .virtual_ranks = kParts, .bucket_bytes = scenario.bucket_bytes}});
  }

  Outcome run() {
    run_thread_ranks(kRanks, [&](Communicator& ranks) { run_rank(ranks); });
    return outcome_;
  }

 private:
  void run_rank(Communicator& ranks) {
    const auto rank = size_t(ranks.rank());
    Stream stream = Stream::cpu();
    Pool pool({});
    const auto optimizer = scenario_.optimizer();
    VariableStore store(plan_, variables_, *optimizer, ranks, pool, 1);
    if (scenario_.after_start && rank == 0) scenario_.after_start(store);
    ranks.barrier();
    outcome_.counters_at_start[rank] = store.scalars().iteration();
    outcome_.slots_at_start[rank] = section_hash(store, Section::slot);
    store.scalars().set_iteration(scenario_.first_iteration);
    TrainStep step(
        ranks, store, *optimizer, [&](Context& context, const Batch& batch) { return forward(context, batch, store); },
        stream, pool, 1);
    try {
      for (int64_t s = 0; s < kSteps; ++s) {
        (void)step.run({s, kParts, leaves(step)});
        if (scenario_.after_step) scenario_.after_step(store, ranks);
      }
    } catch (const Error& error) {
      outcome_.errors[rank] = error.code();
    }
    outcome_.counters[rank] = store.scalars().iteration();
    outcome_.parameters[rank] = section_hash(store, Section::trainable);
    ranks.barrier();
  }

  Results forward(Context& context, const Batch& batch, VariableStore& store) {
    if (scenario_.in_forward) scenario_.in_forward(store);
    const std::array<float, 3> zeros{};
    const bool left_out = scenario_.skips_alone && std::isnan(data<float>(ConstView(batch["inputs"]))[2]);
    Tensor x = context.empty(batch["inputs"].shape());
    std::copy_n(left_out ? zeros.data() : data<float>(ConstView(batch["inputs"])), 3, data<float>(View(x)));
    const Tensor y = layer_(context, x);
    const Tensor loss = reshape(context, mean(context, multiply(context, y, y)), {1});
    return {loss};
  }

  std::vector<BatchPart> leaves(const TrainStep& step) {
    std::vector<BatchPart> own;
    for (int leaf = step.first_part(); leaf < step.last_part(); ++leaf)
      own.push_back(
          {leaf, Batch({{"inputs", ConstView{inputs_.data() + 3 * leaf, DType::f32, DeviceKind::cpu, Shape{1, 3}}}},
                       {ids_.data() + leaf, DType::i64, DeviceKind::cpu, Shape{1}})});
    return own;
  }

  const Scenario& scenario_;
  VariableTable variables_;
  Linear layer_;
  std::unique_ptr<Optimizer> optimizer_;
  std::array<float, 3 * kParts> inputs_;
  std::array<int64_t, kParts> ids_{0, 1, 2, 3, 4, 5, 6, 7};
  Plan plan_;
  Outcome outcome_;
};

Outcome run(const Scenario& scenario) { return Engine(scenario).run(); }

// Cases 7 and 8: a float stops counting where its steps become two.
TEST(RuntimeMuseum, Cases7And8CountsBeyondWhatFloatsCanHold) {
  const auto through_float = [](VariableStore& store, Communicator&) {
    store.scalars().set_iteration(int64_t(float(store.scalars().iteration())));
  };
  const auto through_bf16 = [](VariableStore& store, Communicator&) {
    store.scalars().set_iteration(int64_t(float(bfloat16(float(store.scalars().iteration())))));
  };
  for (const int64_t first : {int64_t(256), int64_t(1) << 24, int64_t(1) << 31, int64_t(1) << 53})
    EXPECT_THAT(run({.first_iteration = first}).counters, Each(first + kSteps));
  EXPECT_THAT(run({.first_iteration = 256, .after_step = through_bf16}).counters, Each(256)) << "the mutant stalls";
  EXPECT_THAT(run({.first_iteration = 1 << 24, .after_step = through_float}).counters, Each(1 << 24));
}

// Case 32: state is not made by a step.
TEST(RuntimeMuseum, Case32StartsWithoutRunningTheOptimizer) {
  const Outcome real = run({});
  EXPECT_THAT(real.counters_at_start, Each(0));
  EXPECT_THAT(real.counters, Each(kSteps));
  const Outcome mutant =
      run({.optimizer = [] { return make_optimizer("adam"); },
           .after_start =
               [](VariableStore& s) {
                 const auto adam = make_optimizer("adam");
                 StepScalars decision;
                 std::vector<float> ones(size_t(s.plan().arena_elements), 1.0f);
                 const View gradient{ones.data(), DType::f32, DeviceKind::cpu, Shape{int64_t(ones.size())}};
                 const std::vector<View> slots = {s.memory().slot(0, 0, s.plan().arena_elements),
                                                  s.memory().slot(1, 0, s.plan().arena_elements)};
                 Stream stream = Stream::cpu();
                 std::vector<double> constants(size_t(adam->constants_bytes() / 8 + 1));
                 const StepState state{.iteration = s.scalars().iteration_cell(),
                                       .learning_rate = s.scalars().learning_rate_cell(),
                                       .scalars = s.scalars().cells(),
                                       .decision = &decision,
                                       .constants = constants.data()};
                 adam->prepare(stream, state, {}, nullptr);
                 adam->update(
                     stream, state,
                     {.param = s.memory().parameters(0, s.plan().arena_elements), .grad = gradient, .slots = slots});
               }});
  EXPECT_EQ(mutant.counters_at_start[0], 1) << "a step has been counted";
  EXPECT_NE(mutant.slots_at_start[0], real.slots_at_start[0]) << "moments have moved";
}

// Case 33: leaves of a batch are micro-batches, and none of them counts.
TEST(RuntimeMuseum, Case33CountsStepsAndNotMicroBatches) {
  EXPECT_THAT(run({}).counters, Each(kSteps));
  const auto per_leaf = [](VariableStore& store) { store.scalars().set_iteration(store.scalars().iteration() + 1); };
  EXPECT_THAT(run({.in_forward = per_leaf}).counters, Each(kSteps * (1 + kParts / kRanks))) << "the mutant";
}

// Case 35: the number of parts that are updated one by one does not matter.
TEST(RuntimeMuseum, Case35StepsOneCounterOnceHoweverManyPartsAreUpdated) {
  const auto parameters = [](int64_t bucket_bytes, bool mutant) {
    Scenario scenario{.bucket_bytes = bucket_bytes};
    if (mutant) scenario.optimizer = [] { return std::make_unique<CountsUpdates>(make_optimizer("adam")); };
    return run(scenario).parameters[0];
  };
  EXPECT_EQ(parameters(1, false), parameters(1 << 20, false));
  EXPECT_NE(parameters(1, true), parameters(1 << 20, true)) << "the mutant corrects its bias too late";
}

// Case 37: a number that is none on one rank stops all ranks before anything has changed.
TEST(RuntimeMuseum, Case37DecidesTogetherWhenOneRankHasNoNumber) {
  const Outcome real = run({.poison = true});
  EXPECT_THAT(real.errors, Each(ErrorCode::numbers));
  EXPECT_THAT(real.counters, Each(0));
  const Outcome mutant = run({.poison = true, .skips_alone = true});
  EXPECT_THAT(mutant.errors, Each(ErrorCode::internal)) << "no rank has stopped";
  EXPECT_THAT(mutant.counters, Each(kSteps)) << "and a step was committed that one rank had skipped";
}

// Case 38 (larq#629, schedules that step once per process): ranks are not counted.
TEST(RuntimeMuseum, Case38CountsStepsAndNotRanks) {
  EXPECT_THAT(run({}).counters, Each(kSteps));
  const auto summed = [before = std::make_shared<std::array<int64_t, kRanks>>()](VariableStore& store,
                                                                                 Communicator& ranks) {
    int64_t& last = (*before)[size_t(ranks.rank())];
    int64_t increment = store.scalars().iteration() - last;
    Stream stream = Stream::cpu();
    ranks.all_reduce({&increment, DType::i64, DeviceKind::cpu, Shape{}}, ReduceOp::sum, stream).wait(stream);
    last += increment;
    store.scalars().set_iteration(last);
  };
  EXPECT_THAT(run({.after_step = summed}).counters, Each(kSteps * kRanks)) << "the mutant";
}

// Cases 31 and 38 (keras#21262): a weight without gradient and an optimizer without state change nothing.
TEST(RuntimeMuseum, Case31TrainsWithAnUnusedWeightAndAStatelessOptimizer) {
  EXPECT_THAT(run({.optimizer = [] { return make_optimizer("sgd"); }}).counters, Each(kSteps));
  // The mutant forgets to announce the gradient that nobody computed: it is missed by name, and no rank hangs.
  try {
    run_thread_ranks(kRanks, [](Communicator& ranks) {
      const auto buckets =
          owned_buckets(ranks, {{.begin = 0, .end = 64, .members = 2, .name = "layer/weight, unused"}});
      HostGradientReducer reducer(ranks, buckets, 64, ReduceMode::tree, kRanks);
      Stream stream = Stream::cpu();
      (void)reducer.begin_part(ranks.rank(), stream);
      reducer.gradient_ready(0, stream);
      reducer.wait(stream);
    });
    FAIL() << "the missing gradient was not missed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::collective);
    EXPECT_THAT(error.what(), HasSubstr("layer/weight, unused"));
  }
}

struct Started {
  uint64_t parameters, slots;
  double learning_rate;
};

// What two ranks on two nodes start from, each with a seed and a learning rate of its own. The mutant builds the state
// before the ranks have met.
std::vector<Started> start(bool together) {
  VariableTable variables;
  const Linear layer(variables, "layer", 3, 40);
  std::vector<Started> started(kRanks);
  run_thread_ranks({.ranks = kRanks, .node_of = {0, 1}}, [&](Communicator& ranks) {
    const auto optimizer = make_optimizer("schedule_free_adamw", {{"learning_rate", 0.1 * double(1 + ranks.rank())}});
    const Plan plan = make_plan(
        {.variables = variables, .optimizer = *optimizer, .settings = {.mesh = {{"data", together ? kRanks : 1}}}});
    const auto alone = make_serial_communicator();
    Pool pool({});
    const VariableStore store(plan, variables, *optimizer, together ? ranks : *alone, pool, uint64_t(ranks.rank()));
    started[size_t(ranks.rank())] = {section_hash(store, Section::trainable), section_hash(store, Section::slot),
                                     store.scalars().learning_rate()};
    ranks.barrier();
  });
  return started;
}

// Case 27 (and slots that copy their parameter): what is copied is what everyone starts from.
TEST(RuntimeMuseum, Case27CopiesParametersIntoSlotsOnceTheyAreEveryones) {
  const std::vector<Started> real = start(true), mutant = start(false);
  EXPECT_EQ(real[0].parameters, real[1].parameters);
  EXPECT_EQ(real[0].slots, real[1].slots);
  EXPECT_NE(mutant[0].slots, mutant[1].slots) << "each rank copied its own";
}

// Case 29: what rank 0 was told holds for all.
TEST(RuntimeMuseum, Case29TakesTheHyperparametersOfRankZero) {
  const std::vector<Started> real = start(true), mutant = start(false);
  EXPECT_EQ(real[0].learning_rate, 0.1);
  EXPECT_EQ(real[1].learning_rate, 0.1);
  EXPECT_NE(mutant[0].learning_rate, mutant[1].learning_rate);
}

// Case 36 (equal scalars that hash differently), and caches keyed by address: plans are equal by content.
TEST(RuntimeMuseum, Case36HashesPlansByContent) {
  const auto plan = [] {
    VariableTable variables;
    variables.parameter("w", {4}, Initializer::constant(1));
    return make_plan(
        {.variables = variables, .optimizer = *make_optimizer("adam"), .settings = {.mesh = {{"data", 2}}}});
  };
  const Plan a = plan(), b = plan();
  EXPECT_EQ(a.hash(), b.hash());
  EXPECT_NE(std::hash<const Plan*>()(&a), std::hash<const Plan*>()(&b)) << "the mutant";
}

}  // namespace
}  // namespace lockstep
