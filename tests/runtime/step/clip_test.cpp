// SPDX-License-Identifier: Apache-2.0
// What a step does with gradients before the update: it skips those that are not finite, on all ranks, and clips.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "collectives/gradients/finite.h"
#include "collectives/gradients/tree_sum.h"
#include "kernels/pointwise.h"
#include "runtime/plan/planner.h"
#include "runtime/state/ledger.h"
#include "runtime/step/train_step.h"
#include "runtime/variables/parameter_groups.h"
#include "tests/support/batch_parts.h"
#include "tests/support/cases.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN(),
                kMost = std::numeric_limits<float>::max();
constexpr int kParts = 8;
constexpr const char* kPaths[] = {"big", "empty", "one", "scalar", "small"};

// An element of a part's gradient.
struct Place {
  int64_t step;
  int part;  // -1: any
  int variable;
  int64_t element;
  bool operator==(const Place& other) const {
    return step == other.step && (part < 0 || part == other.part) && variable == other.variable &&
           element == other.element;
  }
};
struct Poison {
  Place place;
  float value;
};

// A model whose gradients are what the test says, whatever its values are.
struct GivenGradients {
  VariableTable variables;
  std::vector<Variable> trained;
  std::vector<Poison> poison;

  explicit GivenGradients(std::vector<Poison> bad = {}) : poison(std::move(bad)) {
    variables.declare({"frozen", {3}, DType::f32, Role::frozen_parameter, Initializer::constant(2), {}});
    const Shape shapes[] = {{2, 5003}, {0}, {1}, {}, {37}};
    for (int v = 0; v < 5; ++v)
      trained.push_back(variables.parameter(kPaths[v], shapes[v], Initializer::constant(float(v))));
  }

  float gradient(const Place& place) const {
    for (const Poison& bad : poison)
      if (bad.place == place) return bad.value;
    const int64_t mixed = (place.step * 31 + place.part * 17 + place.variable * 7 + place.element * 13) % 101;
    return (float(mixed) - 50) * std::exp2(-float(place.variable));
  }

  Results forward(Context& context, const Batch& batch) const {
    const auto step = int64_t(data<float>(ConstView(batch["inputs"]))[0]);
    const int part = *data<int32_t>(ConstView(batch["labels"]));
    Tensor loss = context.empty({1});
    context.launch(Fill{loss, float(1 + part)});
    const auto at = [&](size_t v) { return context.value(trained[v]).position(); };
    Call(context).record("given gradients", {at(0), at(1), at(2), at(3), at(4)}, loss,
                         [this, step, number = part](Context&, Gradients& grad) {
                           for (int v = 0; v < 5; ++v) {
                             const View out = grad.in(v);
                             for (int64_t i = 0; i < out.size(); ++i)
                               data<float>(out)[i] = gradient({step, number, v, i});
                           }
                         });
    return {loss};
  }
};

struct Setting {
  std::string optimizer = "nadam";  // which has a scalar of its own besides the counter
  ReduceMode mode = ReduceMode::tree;
  DType reduce_dtype = DType::f32;
  int64_t bucket_bytes = 1;
  int64_t steps = 5;
  int threads = 1;
  ClipOptions clip = {};
  std::map<std::string, double> hyperparameters = {{"learning_rate", 1e-3}};
};

// What a rank knows after a step.
struct AfterStep {
  std::string state;  // hashes of every byte that the optimizer owns
  bool skipped;
  std::string not_finite;
  int64_t counter;
  std::vector<std::vector<float>> weights;
  bool operator==(const AfterStep&) const = default;
};

// Takes the steps and tells after each what this rank sees.
std::vector<AfterStep> take_steps(const GivenGradients& model, const Setting& setting, Communicator& ranks) {
  VariableTable variables = model.variables;
  const OptimizerSet optimizer =
      make_optimizer_set(variables, {.name = setting.optimizer, .options = setting.hyperparameters});
  const Plan plan = make_plan({.variables = model.variables,
                               .optimizer = optimizer,
                               .settings = {.mesh = {{"data", ranks.size()}},
                                            .reduce = setting.mode,
                                            .reduce_dtype = setting.reduce_dtype,
                                            .virtual_ranks = kParts,
                                            .bucket_bytes = setting.bucket_bytes}});
  Stream stream = Stream::cpu(setting.threads);
  Pool pool(stream.device());
  VariableStore store(plan, model.variables, optimizer, ranks, pool, 1);
  TrainStep step(ranks, store, optimizer, [&](Context& c, const Batch& batch) { return model.forward(c, batch); },
                 stream, pool, 1, {.clip = setting.clip});
  float input = 0;                      // tells the model which step it is
  std::array<int32_t, kParts> numbers;  // tells the model which part it is
  std::iota(numbers.begin(), numbers.end(), 0);
  const int64_t id = 0;
  std::vector<BatchPart> parts;
  for (int part = step.first_part(); part < step.last_part(); ++part)
    parts.push_back(labelled_part(part, {&input, DType::f32, DeviceKind::cpu, {1}},
                                  {&numbers[size_t(part)], DType::i32, DeviceKind::cpu, {1}},
                                  {&id, DType::i64, DeviceKind::cpu, {1}}));
  std::vector<AfterStep> seen;
  for (int64_t s = 0; s < setting.steps; ++s) {
    input = float(s);
    const StepReport report = step.run({s, plan.settings.parts(), parts});
    seen.push_back(
        {ledger_line(0, 0, store, 0), report.skipped, std::string(report.not_finite), store.scalars().iteration(), {}});
    for (const Variable variable : model.trained) {
      const Tensor& value = store.values()[size_t(variable.index)];
      const auto* first = data<float>(ConstView(value));
      seen.back().weights.emplace_back(first, first + value.size());
    }
  }
  ranks.barrier();
  return seen;
}

std::vector<AfterStep> on_one_rank(const GivenGradients& model, const Setting& setting) {
  return take_steps(model, setting, *make_serial_communicator());
}

// Step 2 of 5 is bad: every rank of every group skips it, names `path`, keeps every byte, and goes on.
void expect_skip(const std::vector<Poison>& poison, const std::string& path, const Setting& setting) {
  const GivenGradients model(poison);
  const std::vector<AfterStep> one = on_one_rank(model, setting);
  on_every_group([&](Communicator& ranks) {
    const std::vector<AfterStep> seen = take_steps(model, setting, ranks);
    for (size_t s = 0; s < seen.size(); ++s) {
      EXPECT_EQ(seen[s].skipped, s == 2) << "step " << s;
      EXPECT_EQ(seen[s].not_finite, s == 2 ? path : "");
      EXPECT_EQ(seen[s].counter, int64_t(s < 2 ? s + 1 : s));
      EXPECT_EQ(s > 0 && seen[s].state == seen[s - 1].state, s == 2) << "step " << s;
      EXPECT_TRUE(setting.mode == ReduceMode::fast || seen[s].state == one[s].state) << "step " << s;
    }
  });
}

TEST(NonFiniteGradient, OnOneRankMakesAllRanksSkipTheStep) {
  for (const float bad : cases({kNan, kInf, -kInf}))
    for (const int part : cases({7, 0, 5})) {
      SCOPED_TRACE(str(bad, " in part ", part));
      expect_skip({{{2, part, 0, 4096 + part * 700}, bad}}, "big", {});
    }
}

TEST(NonFiniteGradient, IsSeenInVariablesOfOneElementWhateverBucketsHoldThem) {
  for (const int64_t bucket_bytes : {1, 1 << 20})
    for (const int variable : {2, 3}) {
      SCOPED_TRACE(str(kPaths[variable], " in buckets of ", bucket_bytes, " B"));
      expect_skip({{{2, 3, variable, 0}, kInf}}, kPaths[variable], {.bucket_bytes = bucket_bytes});
    }
}

TEST(NonFiniteGradient, IsNamedByTheOrderOfThePlanAndNotOfRanksOrBuckets) {
  expect_skip({{{2, 0, 4, 36}, kNan}, {{2, 7, 3, 0}, kInf}}, "scalar", {});
  expect_skip({{{2, 7, 4, 0}, kNan}, {{2, 0, 0, 10005}, kInf}}, "big", {.bucket_bytes = 1 << 20});
}

TEST(NonFiniteGradient, IsFoundInSumsOfFiniteLeaves) { expect_skip({{{2, -1, 4, 7}, kMost}}, "small", {}); }

TEST(NonFiniteGradient, IsFoundInALeafThatBf16CannotHold) {
  expect_skip({{{2, 5, 0, 9}, kMost}}, "big", {.reduce_dtype = DType::bf16});
}

TEST(NonFiniteGradient, IsFoundWhereInfinitiesOfTwoRanksCancel) {
  expect_skip({{{2, 1, 0, 9}, kInf}, {{2, 6, 0, 9}, -kInf}}, "big", {});
}

TEST(NonFiniteGradient, IsSkippedInFastModeToo) {
  expect_skip({{{2, 0, 0, 77}, kNan}}, "big", {.mode = ReduceMode::fast, .threads = 2});
}

TEST(NonFiniteGradient, LeavesTheStateOfARunThatNeverSawIt) {
  // The last of four steps is bad: what is left is the state after three.
  for (const std::string_view name : cases(optimizer_names(), 4)) {
    Setting setting{.optimizer = std::string(name), .steps = 4};
    const std::vector<AfterStep> skipped = on_one_rank(GivenGradients({{{3, 2, 4, 1}, kNan}}), setting);
    setting.steps = 3;
    const std::vector<AfterStep> shorter = on_one_rank(GivenGradients(), setting);
    EXPECT_TRUE(skipped[3].skipped);
    EXPECT_EQ(skipped[3].state, shorter[2].state) << name;
  }
}

constexpr ClipOptions kClips[] = {{.clipnorm = 40}, {.global_clipnorm = 50}, {.clipvalue = 3}};

TEST(NonFiniteGradient, IsSkippedWhateverTheClipping) {
  for (const ClipOptions& clip : cases(kClips)) expect_skip({{{2, 5, 0, 4100}, kInf}}, "big", {.clip = clip});
}

TEST(Clip, GivesTheSameBitsOnAnyRanksNodesThreadsAndBuckets) {
  const GivenGradients model;
  for (const ClipOptions& clip : kClips) {
    SCOPED_TRACE(str(clip.clipnorm, " ", clip.global_clipnorm, " ", clip.clipvalue));
    const std::vector<AfterStep> one = on_one_rank(model, {.clip = clip});
    EXPECT_FALSE(one == on_one_rank(model, {})) << "it clips";
    EXPECT_EQ(one.back().counter, 5);
    on_every_group([&](Communicator& ranks) {
      EXPECT_TRUE(take_steps(model, {.steps = 3, .clip = clip}, ranks)[2] == one[2]);
      const Setting other{.bucket_bytes = 1 << 20, .steps = 3, .threads = 2, .clip = clip};
      EXPECT_TRUE(take_steps(model, other, ranks)[2] == one[2]);
    });
  }
}

TEST(Clip, ChangesNoBitWhereNothingReachesTheLimit) {
  const std::vector<AfterStep> off = on_one_rank(GivenGradients(), {});
  for (const ClipOptions& clip : {ClipOptions{.clipnorm = 1e9}, {.global_clipnorm = 1e9}, {.clipvalue = 1e9}})
    EXPECT_TRUE(on_one_rank(GivenGradients(), {.clip = clip}) == off);
}

// Gradients summed over parts, in double: they are small multiples of powers of two, so sums are exact.
std::vector<double> summed(const GivenGradients& model, int64_t step, int variable, size_t elements) {
  std::vector<double> sums(elements);
  for (size_t i = 0; i < elements; ++i)
    for (int part = 0; part < kParts; ++part) sums[i] += double(model.gradient({step, part, variable, int64_t(i)}));
  return sums;
}

double norm(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

// By the definitions: g * c / max(norm, c), g * c * min(1 / N, 1 / c), and into [-c, c].
double clipped(const ClipOptions& clip, double g, double own_norm, double global_norm) {
  if (clip.clipnorm > 0) g *= clip.clipnorm / std::max(own_norm, clip.clipnorm);
  if (clip.global_clipnorm > 0) g *= clip.global_clipnorm * std::min(1 / global_norm, 1 / clip.global_clipnorm);
  return clip.clipvalue > 0 ? std::clamp(g, -clip.clipvalue, clip.clipvalue) : g;
}

TEST(Clip, FollowsTheDefinitionsAndLeavesWeightDecayAlone) {
  constexpr double kRate = 0.125, kDecay = 0.5;
  const GivenGradients model;
  for (const ClipOptions& clip : kClips)
    run_ranks(3, [&](Communicator& ranks) {
      const Setting setting{.optimizer = "sgd",
                            .steps = 2,
                            .clip = clip,
                            .hyperparameters = {{"learning_rate", kRate}, {"weight_decay", kDecay}}};
      const auto seen = take_steps(model, setting, ranks);
      std::vector<std::vector<double>> g;
      double squares = 0;
      for (int v = 0; v < 5; ++v) g.push_back(summed(model, 1, v, seen[0].weights[size_t(v)].size()));
      for (const auto& each : g) squares += norm(each) * norm(each);
      for (size_t v = 0; v < 5; ++v)
        for (size_t i = 0; i < g[v].size(); ++i) {
          const double before = seen[0].weights[v][i];
          const double step = kRate * clipped(clip, g[v][i], norm(g[v]), std::sqrt(squares));
          ASSERT_NEAR(seen[1].weights[v][i], before * (1 - kRate * kDecay) - step, 2e-6) << kPaths[v] << " " << i;
        }
    });
}

TEST(Clip, ActsOnEachVariableAloneOrOnAllOfThem) {
  // One element of 10,006 is far out: its variable alone is scaled by clipnorm, all of them by global_clipnorm.
  const GivenGradients model({{{0, 0, 0, 5000}, 1e6f}});
  const auto after = [&](const ClipOptions& clip) {
    return on_one_rank(model, {.optimizer = "sgd", .steps = 1, .clip = clip, .hyperparameters = {}})[0].weights;
  };
  const auto off = after({}), own = after({.clipnorm = 1e5}), global = after({.global_clipnorm = 1e5});
  EXPECT_NE(own[0], off[0]);
  EXPECT_NE(global[0], off[0]);
  for (const size_t v : {2, 3, 4}) {
    EXPECT_EQ(own[v], off[v]) << kPaths[v];
    EXPECT_NE(global[v], off[v]) << kPaths[v];
  }
}

TEST(Clip, TakesANormOfZeroForZero) {
  EXPECT_EQ(clip_factor(0, 1), 1);
  EXPECT_EQ(clip_factor(1, 1), 1);
  EXPECT_EQ(clip_factor(4, 1), 0.25f);
}

TEST(Clip, RefusesTwoLimitsAndLimitsThatAreNone) {
  const auto refusal = [](const ClipOptions& clip) {
    try {
      check_clip_options(clip);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal({}), "");
  for (const ClipOptions& clip : kClips) EXPECT_EQ(refusal(clip), "");
  EXPECT_THAT(refusal({.clipnorm = 1, .clipvalue = 2}), testing::HasSubstr("at most one"));
  EXPECT_THAT(refusal({.global_clipnorm = 1, .clipvalue = 2}), testing::HasSubstr("at most one"));
  EXPECT_THAT(refusal({.global_clipnorm = -1}), testing::HasSubstr("global_clipnorm"));
  EXPECT_THAT(refusal({.clipnorm = kNan}), testing::HasSubstr("clipnorm"));
  EXPECT_THAT(refusal({.clipvalue = kInf}), testing::HasSubstr("clipvalue"));
}

TEST(AllFinite, TellsInfinitiesAndNansFromEveryOtherNumber) {
  const float finite[] = {0.0f, -0.0f, 1.0f, kMost, -kMost, 1e-45f, -1e-45f, std::numeric_limits<float>::min()};
  for (const int64_t n : {0, 1, 7, 8, 9, 31, 32, 33, 100}) {
    std::vector<float> values(size_t(n), 1.0f);
    for (size_t i = 0; i < values.size(); ++i) values[i] = finite[i % 8];
    EXPECT_TRUE(all_finite(values.data(), n));
    for (float& value : values)
      for (const float bad : {kInf, -kInf, kNan, -kNan}) {
        const float good = std::exchange(value, bad);
        EXPECT_FALSE(all_finite(values.data(), n)) << bad << " at " << &value - values.data() << " of " << n;
        value = good;
      }
  }
}

TEST(TreeSum, LooksAtEveryBlockItAddsOnAnyNumberOfThreads) {
  constexpr int64_t kElements = 70'001;
  const LeafRange halves[] = {{0, 1}, {1, 2}};
  const TreeSum sum({0, 2}, halves);
  std::vector<float> a(kElements, 1), b(kElements, 2), out(kElements), expected(kElements);
  const float* inputs[] = {a.data(), b.data()};
  sum.run(expected.data(), inputs, kElements, 1);
  for (const int threads : {1, 3}) {
    EXPECT_TRUE(sum.run_and_look(out.data(), inputs, kElements, threads));
    EXPECT_EQ(out, expected);
    for (const int64_t place : {int64_t(0), int64_t(1023), int64_t(1024), int64_t(40'000), kElements - 1}) {
      b[size_t(place)] = kNan;
      EXPECT_FALSE(sum.run_and_look(out.data(), inputs, kElements, threads)) << place;
      b[size_t(place)] = 2;
    }
  }
}

}  // namespace
}  // namespace lockstep
